import { HrunError } from '../../base/errors.ts';
import { isAlive } from '../../sys/processes.ts';
import type { VmmDeps } from '../deps.ts';
import type { MicroVm, VmRecord } from '../microVm.ts';
import { findOutOfMemory } from '../outOfMemory.ts';
import { connectUnix } from './connectUnix.ts';
import { parseStatus, QemuMicroVm } from './qemuMicroVm.ts';
import { QmpConnection } from './qmp.ts';
import { runFiles } from './runFiles.ts';

/** For QEMU to answer: one that stands still must not keep a daemon from serving the others. */
const answerLimitMs = 30_000;

/**
 * Takes over a microVM that an earlier process started. A guest that ended meanwhile is told by `ended`.
 * @throws HrunError VM_DIED when its QEMU is gone or no longer obeys
 */
export async function adoptMicroVm(record: VmRecord, deps: VmmDeps, signal: AbortSignal): Promise<MicroVm> {
  const subject = `microVM ${record.id}`;
  if (!(await isAlive({ pid: record.pid, startTicks: record.pidStartTicks }))) {
    const cause = await findOutOfMemory(record.cgroups ?? []);
    const why = cause?.message ?? `its QEMU (pid ${record.pid}) no longer runs`;
    throw new HrunError('VM_DIED', `${subject} is gone: ${why}`, { cause });
  }
  const limit = AbortSignal.any([signal, AbortSignal.timeout(answerLimitMs)]);
  using undo = new DisposableStack();
  try {
    const socket = await connectUnix(runFiles(record.runDir).control, limit);
    const qmp = undo.use(new QmpConnection(socket, subject));
    await qmp.negotiate(limit);
    const status = parseStatus(await qmp.execute('query-status', {}, limit));
    deps.log.debug({ vm: record.id, pid: record.pid, status }, 'microVM adopted');
    undo.move();
    return new QemuMicroVm({ record, qmp, status });
  } catch (cause) {
    signal.throwIfAborted();
    throw new HrunError('VM_DIED', `${subject} no longer obeys`, { cause });
  }
}
