import { resolve } from 'node:path';
import { type AgentConnection, connectAgent } from '../../src/agent/connection.ts';
import { serialDial } from '../../src/agent/serialDial.ts';
import { withDeadline } from '../../src/base/abort.ts';
import { newVmId } from '../../src/base/ids.ts';
import { silentLog } from '../../src/base/log.ts';
import type { VmmDeps } from '../../src/vmm/deps.ts';
import type { JailPolicy } from '../../src/vmm/jail/policy.ts';
import type { MicroVm, VmRequest, VmShape } from '../../src/vmm/microVm.ts';
import { bootMicroVm } from '../../src/vmm/qemu/boot.ts';
import { findQemu } from '../../src/vmm/qemu/findQemu.ts';
import { whileRunning } from '../../src/vmm/whileRunning.ts';
import { temporaryDirectory } from './tempDir.ts';

const guestDir = resolve(import.meta.dirname, '../../dist/guest');
/** Generous: the machine may be busy with other tests. */
const agentLimitMs = 60_000;

export const testShape: VmShape = {
  kernelPath: resolve(guestDir, 'vmlinux'),
  initramfsPath: resolve(guestDir, 'initramfs.cpio'),
  accelerator: 'tcg',
  vcpus: 1,
  memoryMiB: 128,
  transport: 'serial',
  kernelParameters: [],
};

/** Of all tests together: what QEMU sees is copied once. */
export const testJail: JailPolicy = {
  launcherPath: resolve(guestDir, '../hrun'),
  treesDir: resolve(guestDir, '../cache/jail'),
  uids: { first: 2_000_000_000, count: 65_536 },
  owner: guestDir,
  fileBytes: 2 ** 30,
  allowed: [],
};

export async function testVmmDeps(): Promise<VmmDeps> {
  return { qemuPath: await findQemu(undefined, process.env.PATH ?? ''), jail: testJail, log: silentLog };
}

export interface TestVm extends AsyncDisposable {
  readonly vm: MicroVm;
  readonly runDir: string;
}

/** Starts a guest in a directory of its own; both go on dispose. */
export async function bootTestVm(
  change: Partial<Omit<VmRequest, 'shape'>> & { readonly shape?: Partial<VmShape> } = {},
): Promise<TestVm> {
  await using undo = new AsyncDisposableStack();
  const { path: runDir } = undo.use(await temporaryDirectory());
  const shape = { ...testShape, ...change.shape };
  const request: VmRequest = { id: newVmId(), runDir, ...change, shape };
  const vm = undo.use(await bootMicroVm(request, await testVmmDeps(), AbortSignal.timeout(agentLimitMs)));
  const owned = undo.move();
  return { vm, runDir, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The connection to the agent of a guest that is booting or running. */
export function connectTestAgent(
  vm: MicroVm,
  signal: AbortSignal = AbortSignal.timeout(agentLimitMs),
): Promise<AgentConnection> {
  const socketPath = resolve(vm.record.runDir, 'grpc.sock');
  return whileRunning(vm, 'booting', signal, (inner) =>
    connectAgent(
      serialDial((dialling) => vm.dial(dialling)),
      { socketPath },
      inner,
    ),
  );
}

/** As the runtime does: the phase has a limit and a name. */
export function connectWithin(vm: MicroVm, limitMs: number): Promise<AgentConnection> {
  return withDeadline('waiting for the agent', limitMs, AbortSignal.timeout(agentLimitMs), (signal) =>
    connectTestAgent(vm, signal),
  );
}
