import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { HrunError } from '../base/errors.ts';
import { newVmId } from '../base/ids.ts';
import type { Unpacker, UnpackRequest } from '../image/imageDisk.ts';
import { whileRunning } from '../vmm/whileRunning.ts';
import { openGuestVm } from './guestVm.ts';
import { PhaseClock } from './phases.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';

const vcpus = 1;
/** Page cache for the layers is what makes unpacking fast. */
const memoryMiB = 512;
const maxEntriesPerLayer = 1_000_000n;
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
        const messages = client.unpackLayers(unpackLayersRequest(request), alive);
        let done = false;
        for await (const { layerIndex, bytesRead, entries, done: last } of messages) {
          if (layerIndex >= request.layers.length && !last) {
            throw new HrunError(
              'AGENT_PROTOCOL',
              `the agent unpacks layer ${layerIndex}, which was not given`,
            );
          }
          if (last) done = true;
          else request.onProgress({ layerIndex, bytesRead: Number(bytesRead), entries: Number(entries) });
        }
        if (!done) throw new HrunError('AGENT_PROTOCOL', 'the agent stopped unpacking without a word');
      });
    },
  };
}

function unpackLayersRequest({ layers }: UnpackRequest) {
  return {
    sourceSerial,
    targetSerial,
    layers: layers.map(({ offset, length, digest }) => ({
      offset: BigInt(offset),
      length: BigInt(length),
      digest,
    })),
    maxEntriesPerLayer,
  };
}
