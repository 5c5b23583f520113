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

/** What guests wait for: a container of one image, whose clones have it mounted … */
export interface ImageStock {
  readonly kind: 'image';
  readonly key: string;
  readonly shape: VmShape;
  readonly scope: TemplateScope;
  root: ReadyRoot;
}

/** … or one whose root is a directory of the host: booted, because QEMU 7.2 does not restore a share. */
export interface ShareStock {
  readonly kind: 'share';
  readonly shape: VmShape;
  readonly nicSlots: number;
  /** By which the guest finds the share. */
  readonly tag: string;
}

export type Stock = ImageStock | ShareStock;

/** Its root is mounted. */
export interface PooledGuest {
  readonly id: VmId;
  readonly runDir: string;
  readonly guest: GuestVm;
  /** The guest's writable disk, still empty: whoever claims it moves it away or disposes of it. */
  readonly scratch: WritableDisk;
}

/** It has a share with nothing of a container in it. */
export interface ServedGuest {
  readonly id: VmId;
  readonly runDir: string;
  readonly guest: GuestVm;
  readonly host: ShareHost;
}

export type ReadyGuest = (
  | ({ readonly kind: 'image' } & PooledGuest)
  | ({ readonly kind: 'share' } & ServedGuest)
) & {
  readonly privateBytes: number;
};

/**
 * Containers that do nothing, run in a guest before it waits. Translated code is QEMU's own and does not come with a
 * snapshot; what the first round leaves untranslated the second one finds. Without translation a template is warm enough.
 */
const warmRounds: Readonly<Record<Accelerator, number>> = { kvm: 0, tcg: 2 };
/** One that was booted has never run anything. */
const leastServedRounds = 1;

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
  const made =
    stock.kind === 'image'
      ? await cloneReady(stock, id, runDir, templates, deps, undo, signal)
      : await bootReady(stock, id, runDir, deps, undo, signal);
  const { vm } = made.guest;
  await vm.pause(signal);
  const takenBytes = (await privateBytes(vm.record.pid)) ?? 0;
  undo.move();
  return { ...made, privateBytes: takenBytes };
}

/** Ends one that nobody claimed. */
export async function endReady(ready: ReadyGuest): Promise<void> {
  if (ready.kind === 'share') await endServed(ready);
  else {
    await ready.guest[Symbol.asyncDispose]();
    await ready.scratch[Symbol.asyncDispose]();
    await rm(ready.runDir, { recursive: true, force: true });
  }
}

/** Ends a guest with its share, claimed or not. */
export async function endServed({ guest, host, runDir }: ServedGuest): Promise<void> {
  await guest[Symbol.asyncDispose]();
  await host[Symbol.asyncDispose]();
  await rm(runDir, { recursive: true, force: true });
}

/** Settles when nobody can use it any more. */
export async function whenUseless(ready: ReadyGuest): Promise<void> {
  const ends: Promise<unknown>[] = [ready.guest.vm.ended];
  if (ready.kind === 'share') ends.push(ready.host.ended);
  await Promise.race(ends);
}

async function cloneReady(
  { key, shape, scope, root }: ImageStock,
  id: VmId,
  runDir: string,
  templates: Templates,
  deps: BuildDeps,
  undo: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<{ readonly kind: 'image' } & PooledGuest> {
  using lease = await templates.use(key, shape, scope, signal);
  const vm = await restoreMicroVm(templateRequest(shape, id, runDir), lease.template, false, deps, signal);
  const guest = undo.use(new GuestVm(vm, deps.limits));
  await guest.agent(signal, 'restoring');
  for (let round = 0; round < warmRounds[shape.accelerator]; round += 1) {
    await warmGuest(guest, deps.warmDisks, signal);
  }
  const scratch = undo.use(await deps.warmDisks.ready(signal));
  await prepareRoot(guest, root, scratch.path, signal);
  return { kind: 'image', id, runDir, guest, scratch };
}

async function bootReady(
  { shape, nicSlots, tag }: ShareStock,
  id: VmId,
  runDir: string,
  deps: BuildDeps,
  undo: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<{ readonly kind: 'share' } & ServedGuest> {
  const host = undo.use(await deps.shareHost(runDir, signal));
  const share = { tag, socketPath: host.socketPath };
  const vm = await bootMicroVm({ id, runDir, shape, nicSlots, share }, deps, signal);
  const guest = undo.use(new GuestVm(vm, deps.limits));
  await guest.agent(signal, 'booting');
  const rounds = Math.max(warmRounds[shape.accelerator], leastServedRounds);
  for (let round = 0; round < rounds; round += 1) {
    await warmServedGuest(guest, { tag, path: host.emptyShare }, signal);
  }
  return { kind: 'share', id, runDir, guest, host };
}
