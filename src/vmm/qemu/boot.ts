import { randomInt } from 'node:crypto';
import { abortable } from '../../base/abort.ts';
import { HrunError, messageOf } from '../../base/errors.ts';
import { tscKhz } from '../../sys/tsc.ts';
import { listenUnix } from '../../sys/unixListener.ts';
import type { VmmDeps } from '../deps.ts';
import type { MicroVm, VmRecord, VmRequest } from '../microVm.ts';
import { qemuArguments } from './commandLine.ts';
import { connectUnix } from './connectUnix.ts';
import { type Emulator, firstInheritedFd, killEmulator, startEmulator } from './emulator.ts';
import { disconnectNics } from './nic.ts';
import { QemuMicroVm } from './qemuMicroVm.ts';
import { QmpConnection } from './qmp.ts';
import { removeRunFiles, runFiles } from './runFiles.ts';

/**
 * Starts a microVM with a cold boot. Returns once QEMU obeys; the guest is then still booting: open its agent with
 * `dial`, inside `whileRunning` so that a guest that dies on the way is told as such.
 * @throws HrunError QEMU_MISSING, QEMU_FAILED (with QEMU's own words), INVALID_ARGUMENT
 */
export async function bootMicroVm(request: VmRequest, deps: VmmDeps, signal: AbortSignal): Promise<MicroVm> {
  signal.throwIfAborted();
  await using undo = new AsyncDisposableStack();
  undo.defer(() => removeRunFiles(request.runDir));
  // chosen at random among 2^31: nobody else keeps a list of those in use
  const vsockCid = request.shape.transport === 'vsock' ? randomInt(1024, 2 ** 31) : undefined;
  const emulator = await launch(request, vsockCid, deps);
  undo.defer(() => killEmulator(emulator.identity));
  await request.onStarted?.(emulator.identity.pid);
  const qmp = undo.use(await openControl(request, emulator, signal));
  await disconnectNics(qmp, request.nicSlots ?? 1, signal);
  const record: VmRecord = {
    id: request.id,
    runDir: request.runDir,
    pid: emulator.identity.pid,
    pidStartTicks: emulator.identity.startTicks,
    transport: request.shape.transport,
    ...(vsockCid === undefined ? {} : { vsockCid }),
  };
  deps.log.debug({ vm: record.id, pid: record.pid }, 'microVM started');
  undo.move();
  return new QemuMicroVm({ record, qmp, exited: emulator.exited, status: 'running' });
}

async function launch(
  request: VmRequest,
  vsockCid: number | undefined,
  { qemuPath }: VmmDeps,
): Promise<Emulator> {
  const paths = runFiles(request.runDir);
  const counterKhz = await tscKhz();
  using listeners = new DisposableStack();
  // QEMU inherits sockets that already listen: clients connect at once and again after a restart of the daemon
  const control = listeners.use(listenUnix(paths.control)).fd;
  const agent = vsockCid === undefined ? listeners.use(listenUnix(paths.agent)).fd : undefined;
  const wiring = {
    controlFd: firstInheritedFd,
    agentFd: agent === undefined ? undefined : firstInheritedFd + 1,
    vsockCid,
    tscKhz: counterKhz,
  };
  const inherited = agent === undefined ? [control] : [control, agent];
  return startEmulator(qemuPath, qemuArguments(request, wiring), inherited);
}

async function openControl(
  request: VmRequest,
  emulator: Emulator,
  signal: AbortSignal,
): Promise<QmpConnection> {
  using undo = new DisposableStack();
  try {
    const socket = await connectUnix(runFiles(request.runDir).control, signal);
    const qmp = undo.use(new QmpConnection(socket, `microVM ${request.id}`));
    await qmp.negotiate(signal);
    undo.move();
    return qmp;
  } catch (cause) {
    signal.throwIfAborted();
    const said = await abortable(emulator.exited, AbortSignal.any([signal, AbortSignal.timeout(1000)])).catch(
      () => messageOf(cause),
    );
    throw new HrunError('QEMU_FAILED', `microVM ${request.id} did not start: ${said}`, { cause });
  }
}
