import { HrunError } from '../base/errors.ts';
import { parseContainerId } from '../base/ids.ts';
import type { AttachIo } from './attachIo.ts';
import type { AttachRecord } from './attachRecord.ts';
import { attachSession, replayEnded } from './attachSession.ts';
import type { Ended, StreamOffsets } from './engine.ts';
import { attachToExec } from './execProcess.ts';
import { GuestProcess } from './guestProcess.ts';
import { initProcessId, openContainerLog } from './launchContainer.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';

/**
 * Goes on with an attached command whose daemon died. Its front door has the command's streams up to `received`.
 * @throws HrunError NOT_FOUND when the container is gone, VM_DIED when an exec's container ended meanwhile
 */
export async function resumeAttachment(
  record: AttachRecord,
  received: StreamOffsets,
  io: AttachIo,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<Ended> {
  const id = parseContainerId(record.containerId);
  const container = deps.store.find(id);
  const live = deps.live.get(id);
  const from = {
    stdout: record.stdoutFrom + beyond(received.stdout, record.stdoutBase),
    stderr: record.stderrFrom + beyond(received.stderr, record.stderrBase),
  };
  if (record.processId !== initProcessId) {
    if (live === undefined) {
      throw new HrunError('VM_DIED', `container ${container.name} ended, and its processes with it`);
    }
    const process = new GuestProcess(live.guest, id, record.processId);
    const { terminal, openStdin, stdinBase } = record;
    return await attachToExec(live, process, { terminal, openStdin, stdinBase, from }, io, signal);
  }
  if (live === undefined) {
    await using log = await openContainerLog(container, deps);
    return await replayEnded(log, container, from, io, signal);
  }
  const plan = {
    from,
    ownsOutput: record.ownsOutput,
    stdin: record.openStdin,
    signalProxy: record.signalProxy,
    timing: record.timing,
  };
  return await attachSession(live, container, plan, io, record.stdinBase, signal);
}

/** Text of hrun itself may precede the workload's first byte. */
function beyond(offset: bigint, base: bigint): bigint {
  return offset > base ? offset - base : 0n;
}
