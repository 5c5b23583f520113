import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { newVmId, type VmId } from '../base/ids.ts';
import type { TemplateScope } from '../base/templateScope.ts';
import { privateBytes } from '../sys/processes.ts';
import type { Accelerator, VmShape } from '../vmm/microVm.ts';
import { bootMicroVm, restoreMicroVm } from '../vmm/qemu/boot.ts';
import type { BuildDeps } from './buildTemplate.ts';
import { GuestVm } from './guestVm.ts';
import type { ShareHost } from './shareHost.ts';
import { templateRequest } from './templateKey.ts';
import type { Templates } from './templates.ts';
import { prepareRoot, type ReadyRoot, type WritableDisk, warmGuest, warmServedGuest } from './warmGuest.ts';

/** What guests wait for. */
export interface Stock {
  readonly shape: VmShape;
  /** A clone, or, with a share, one that was booted: QEMU 7.2 does not restore a share. */
  readonly from: FromTemplate | WithShare;
  /** What is mounted as its root; a bundle has its own in the share. */
  root?: ReadyRoot;
}

export interface FromTemplate {
  readonly key: string;
  readonly scope: TemplateScope;
}

export interface WithShare {
  /** By which the guest finds the share. */
  readonly tag: string;
  readonly nicSlots: number;
}

export interface PooledGuest {
  readonly id: VmId;
  readonly runDir: string;
  readonly guest: GuestVm;
  /** Of one with a root: its writable disk, still empty. Whoever claims it moves it away or disposes of it. */
  readonly scratch?: WritableDisk;
  /** Of one with a share, which holds nothing of a container yet. */
  readonly host?: ShareHost;
}

export type ReadyGuest = PooledGuest & { readonly privateBytes: number };

/**
 * Containers that do nothing, run in a guest before it waits. Translated code is QEMU's own and does not come with a
 * snapshot; what the first round leaves untranslated the second one finds. Without translation a template is warm enough.
 */
const warmRounds: Readonly<Record<Accelerator, number>> = { kvm: 0, tcg: 2 };
/** One that was booted has never run anything. */
const leastRoundsOfBooted = 1;

/**
 * Makes one guest, warm and paused.
 * @throws HrunError as bootMicroVm, Templates.use and GuestVm.agent
 */
export async function makeReady(
  stock: Stock,
  templates: Templates,
  deps: BuildDeps,
  signal: AbortSignal,
): Promise<ReadyGuest> {
  await using undo = new AsyncDisposableStack();
  const id = newVmId();
  const runDir = join(deps.vmsDir, id);
  await mkdir(runDir, { mode: 0o700 });
  undo.defer(() => rm(runDir, { recursive: true, force: true }));
  const place = { id, runDir, undo };
  const made =
    'key' in stock.from
      ? await cloneReady(stock.from, stock, place, templates, deps, signal)
      : await bootReady(stock.from, stock, place, deps, signal);
  const { vm } = made.guest;
  await vm.pause(signal);
  const takenBytes = (await privateBytes(vm.record.pid)) ?? 0;
  undo.move();
  return { ...made, privateBytes: takenBytes };
}

/** Ends a guest with all that was made for it. */
export async function endPooled({ guest, scratch, host, runDir }: PooledGuest): Promise<void> {
  await guest[Symbol.asyncDispose]();
  await host?.[Symbol.asyncDispose]();
  await scratch?.[Symbol.asyncDispose]();
  await rm(runDir, { recursive: true, force: true });
}

/** Settles when nobody can use it any more. */
export async function whenUseless({ guest, host }: PooledGuest): Promise<void> {
  await Promise.race([guest.vm.ended, ...(host ? [host.ended] : [])]);
}

/** Where a guest is made, and what is undone if it is not. */
interface Place {
  readonly id: VmId;
  readonly runDir: string;
  readonly undo: AsyncDisposableStack;
}

async function cloneReady(
  { key, scope }: FromTemplate,
  { shape, root }: Stock,
  { id, runDir, undo }: Place,
  templates: Templates,
  deps: BuildDeps,
  signal: AbortSignal,
): Promise<PooledGuest> {
  using lease = await templates.use(key, shape, scope, signal);
  const vm = await restoreMicroVm(templateRequest(shape, id, runDir), lease.template, false, deps, signal);
  const guest = undo.use(new GuestVm(vm, deps.limits));
  await guest.agent(signal, 'restoring');
  await warmUp(warmRounds[shape.accelerator], () => warmGuest(guest, deps.warmDisks, signal));
  return { id, runDir, guest, ...(root && (await mountRoot(guest, root, deps, undo, signal))) };
}

async function bootReady(
  { nicSlots, tag }: WithShare,
  { shape, root }: Stock,
  { id, runDir, undo }: Place,
  deps: BuildDeps,
  signal: AbortSignal,
): Promise<PooledGuest> {
  const host = undo.use(await deps.shareHost(runDir, signal));
  const share = { tag, socketPath: host.socketPath };
  const disks = root && ({ imageDisk: 'empty', scratchDisk: 'empty' } as const);
  const vm = await bootMicroVm({ id, runDir, shape, nicSlots, share, ...disks }, deps, signal);
  const guest = undo.use(new GuestVm(vm, deps.limits));
  await guest.agent(signal, 'booting');
  const rounds = Math.max(warmRounds[shape.accelerator], leastRoundsOfBooted);
  await warmUp(rounds, () =>
    root === undefined
      ? warmServedGuest(guest, { tag, path: host.emptyShare }, signal)
      : warmGuest(guest, deps.warmDisks, signal),
  );
  return { id, runDir, guest, host, ...(root && (await mountRoot(guest, root, deps, undo, signal))) };
}

async function warmUp(rounds: number, warm: () => Promise<void>): Promise<void> {
  for (let round = 0; round < rounds; round += 1) await warm();
}

async function mountRoot(
  guest: GuestVm,
  root: ReadyRoot,
  deps: BuildDeps,
  undo: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<{ readonly scratch: WritableDisk }> {
  const scratch = undo.use(await deps.warmDisks.ready(signal));
  await prepareRoot(guest, root, scratch.path, signal);
  return { scratch };
}
