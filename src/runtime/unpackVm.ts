import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { AgentClient } from '../agent/client.ts';
import { failureReasonOf } from '../agent/failure.ts';
import { abortable } from '../base/abort.ts';
import { type ErrorCode, HrunError, isHrunError } from '../base/errors.ts';
import { newVmId } from '../base/ids.ts';
import { PhaseClock } from '../base/phases.ts';
import type { Unpacker } from '../image/imageDisk.ts';
import type { LayerExtent } from '../image/plainLayers.ts';
import { shortDigest } from '../image/progress.ts';
import { openGuestVm } from '../pool/guestVm.ts';
import { whileRunning } from '../vmm/whileRunning.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';

const vcpus = 1;
/** Page cache for the layers is what makes unpacking fast. */
const memoryMiB = 512;
const hints: Partial<Record<ErrorCode, string>> = {
  LAYER_CORRUPT: 'remove the image and get it again; if that does not help, it was built wrong',
  DISK_FULL: 'raise imageDiskSize in the configuration',
};
const sourceSerial = 'layers';
const targetSerial = 'target';

/** Unpacks layers inside a microVM that is made for it and thrown away: no archive is parsed on the host. */
export function unpackerInVm(
  deps: Pick<RuntimeDeps, 'config' | 'paths' | 'defaults' | 'vmm' | 'accelerator' | 'now'>,
): Unpacker {
  return {
    async unpack(request, signal) {
      await using undo = new AsyncDisposableStack();
      const id = newVmId();
      const runDir = join(deps.paths.vms, id);
      await mkdir(runDir, { mode: 0o700 });
      undo.defer(() => rm(runDir, { recursive: true, force: true }));
      const guest = undo.use(
        await openGuestVm(
          {
            id,
            runDir,
            shape: {
              ...deps.defaults,
              accelerator: await deps.accelerator(deps.config.accelerator, signal),
              vcpus,
              memoryMiB,
              transport: 'serial',
              kernelParameters: [],
            },
            imageDisk: { serial: sourceSerial, path: request.sourcePath, readonly: true },
            scratchDisk: { serial: targetSerial, path: request.targetPath, readonly: false },
          },
          'unpack',
          await deps.vmm(signal),
          deps.config,
          new PhaseClock(deps.now),
          signal,
        ),
      );
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
    sourceSerial,
    targetSerial,
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
