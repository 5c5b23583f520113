import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { newVmId } from '../base/ids.ts';
import { type Memfd, sealMemfd } from '../sys/memfd.ts';
import type { VmmDeps } from '../vmm/deps.ts';
import type { VmShape } from '../vmm/microVm.ts';
import { bootForTemplate } from '../vmm/qemu/boot.ts';
import { whileRunning } from '../vmm/whileRunning.ts';
import { type GuestLimits, GuestVm } from './guestVm.ts';
import { createRam } from './ramImage.ts';
import type { ShareHost } from './shareHost.ts';
import { templateRequest } from './templateKey.ts';
import { type WarmDisks, warmGuest } from './warmGuest.ts';

export interface BuildDeps extends VmmDeps {
  /** Directory of the VMs' own directories. */
  readonly vmsDir: string;
  readonly limits: GuestLimits;
  readonly warmDisks: WarmDisks;
  /** Starts one whose sockets are in `runDir`. */
  shareHost(runDir: string, signal: AbortSignal): Promise<ShareHost>;
}

/** A guest that was saved; `ram` is sealed and the caller's to dispose. */
export interface SavedGuest {
  readonly ram: Memfd;
  readonly state: Buffer;
}

/**
 * Boots a guest of `shape`, lets it do what every guest has to do once, and saves it: an agent that is ready, no
 * container, no connection, no identity.
 * @throws HrunError as bootMicroVm and GuestVm.agent
 */
export async function buildTemplate(
  shape: VmShape,
  deps: BuildDeps,
  signal: AbortSignal,
): Promise<SavedGuest> {
  using undo = new DisposableStack();
  const ram = undo.use(createRam(shape.memoryMiB * 1024 * 1024));
  const state = await bootAndSave(shape, ram, deps, signal);
  // possible only now that no QEMU has it mapped
  sealMemfd(ram);
  undo.move();
  return { ram, state };
}

async function bootAndSave(
  shape: VmShape,
  ram: Memfd,
  deps: BuildDeps,
  signal: AbortSignal,
): Promise<Buffer> {
  await using undo = new AsyncDisposableStack();
  const id = newVmId();
  const runDir = join(deps.vmsDir, id);
  await mkdir(runDir, { mode: 0o700 });
  undo.defer(() => rm(runDir, { recursive: true, force: true }));
  const vm = await bootForTemplate(templateRequest(shape, id, runDir), ram.fd, deps, signal);
  const guest = undo.use(new GuestVm(vm, deps.limits));
  await guest.agent(signal, 'booting');
  await warmGuest(guest, deps.warmDisks, signal);
  return await whileRunning(vm, 'being saved', signal, async (alive) => {
    const { client } = await guest.agent(alive);
    await client.prepareTemplate(alive);
    await guest.disconnect();
    return await vm.save(alive);
  });
}
