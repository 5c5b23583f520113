import type { AgentClient } from '../agent/client.ts';
import { failureReasonOf } from '../agent/failure.ts';
import { abortable } from '../base/abort.ts';
import { type ErrorCode, HrunError, isHrunError } from '../base/errors.ts';
import type { JailStep } from '../base/jailSteps.ts';
import { PhaseClock } from '../base/phases.ts';
import type { Unpacker } from '../image/imageDisk.ts';
import type { LayerExtent } from '../image/plainLayers.ts';
import { shortDigest } from '../image/progress.ts';
import { whileRunning } from '../vmm/whileRunning.ts';
import { defaultVmSize } from './containerConfig.ts';
import { imageDiskSerial, scratchDiskSerial } from './guestDevices.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';

const hints: Partial<Record<ErrorCode, string>> = {
  LAYER_CORRUPT: 'remove the image and get it again; if that does not help, it was built wrong',
  DISK_FULL: 'raise imageDiskSize in the configuration',
};

/**
 * Unpacks layers inside a microVM that is made for it and thrown away: no archive is parsed on the host.
 * @param allowWeakerJail steps of its jail that may be impossible, besides those of the configuration
 */
export function unpackerInVm(
  deps: Pick<RuntimeDeps, 'config' | 'defaults' | 'guests' | 'accelerator' | 'now'>,
  allowWeakerJail: readonly JailStep[],
): Unpacker {
  return {
    trust: allowWeakerJail.toSorted().join(),
    async unpack(request, signal) {
      await using undo = new AsyncDisposableStack();
      const reservation = undo.use(
        await deps.guests.reserve(
          {
            shape: {
              ...deps.defaults,
              accelerator: await deps.accelerator(deps.config.accelerator, signal),
              ...defaultVmSize(deps.config),
              transport: 'serial',
              kernelParameters: [],
            },
            scope: deps.config.templateScope,
            cold: false,
            weaker: allowWeakerJail.length > 0,
            common: true,
          },
          signal,
        ),
      );
      const { guest, distinct } = undo.use(
        await reservation.open(
          {
            imageDisk: { serial: imageDiskSerial, path: request.sourcePath, readonly: true },
            scratchDisk: { serial: scratchDiskSerial, path: request.targetPath, readonly: false },
            hostname: 'unpack',
            ...(allowWeakerJail.length > 0 && { allowWeakerJail }),
          },
          new PhaseClock(deps.now),
          signal,
        ),
      );
      await distinct;
      await whileRunning(guest.vm, 'unpacking layers', signal, async (alive) => {
        const { client } = await guest.agent(alive);
        const maxEntries = deps.config.imageMaxEntries;
        for (const [layerIndex, ready] of request.layers.entries()) {
          const extent = await abortable(ready, alive);
          const asked = unpackLayersRequest(extent, request.subject, maxEntries);
          await watchUnpacking(client.unpackLayers(asked, alive), ({ bytesRead, entries }) =>
            request.onProgress({ layerIndex, layerBytes: extent.length, bytesRead, entries }),
          ).catch((cause: unknown) => {
            throw withHint(cause);
          });
        }
      });
    },
  };
}

async function watchUnpacking(
  messages: ReturnType<AgentClient['unpackLayers']>,
  onProgress: (progress: { readonly bytesRead: number; readonly entries: number }) => void,
): Promise<void> {
  let done = false;
  for await (const { bytesRead, entries, done: last } of messages) {
    if (last) done = true;
    else onProgress({ bytesRead: Number(bytesRead), entries: Number(entries) });
  }
  if (!done) throw new HrunError('AGENT_PROTOCOL', 'the agent stopped unpacking without a word');
}

/** What a user can do about a layer that the agent refused. */
function withHint(error: unknown): unknown {
  if (!isHrunError(error)) return error;
  const tooMany = failureReasonOf(error) === 'TOO_MANY_ENTRIES';
  const hint = tooMany ? 'raise imageMaxEntries in the configuration' : hints[error.code];
  if (hint === undefined) return error;
  return new HrunError(error.code, error.message, { cause: error.cause, hint });
}

function unpackLayersRequest({ offset, length, digest }: LayerExtent, subject: string, maxEntries: number) {
  return {
    sourceSerial: imageDiskSerial,
    targetSerial: scratchDiskSerial,
    // what the agent calls the layer when it complains
    layers: [
      {
        offset: BigInt(offset),
        length: BigInt(length),
        digest: `${shortDigest(digest)} of ${subject}`,
      },
    ],
    maxEntriesPerLayer: BigInt(maxEntries),
  };
}
