import type { AgentClient } from '../agent/client.ts';
import type { CreateContainerInit, ProcessInit } from '../agent/types.ts';
import { withCancel } from '../base/abort.ts';
import { HrunError } from '../base/errors.ts';
import { defaultDevices, defaultMounts, maskedPaths, readonlyPaths } from '../oci/defaults.ts';
import type { Disk } from '../vmm/microVm.ts';
import { whileRunning } from '../vmm/whileRunning.ts';
import { type GuestVm, personalizeGuest } from './guestVm.ts';

/** Disks for a container that does nothing: an image that is empty, and a writable disk that is forgotten. */
export interface WarmDisks {
  /** Path of the image; made if it is not there. */
  image(signal: AbortSignal): Promise<string>;
  /** Makes one more writable disk; disposing removes it. */
  scratch(signal: AbortSignal): Promise<WritableDisk>;
  /** As `scratch`, for a container to come: whoever launches it moves it to its place. */
  ready(signal: AbortSignal): Promise<WritableDisk>;
}

export type WritableDisk = { readonly path: string } & AsyncDisposable;

const containerId = 'warm-up';
const processId = 'init';
const imageSerial = 'image';
const scratchSerial = 'scratch';

/**
 * Runs a container that does nothing in a guest with empty slots and takes it down again. What the first workload of a
 * guest touches is then in its memory, and, where QEMU translates the guest's code, translated. The workload is the agent's
 * own program: no tenant's code and no image is in the guest.
 */
export async function warmGuest(guest: GuestVm, disks: WarmDisks, signal: AbortSignal): Promise<void> {
  await using scratch = await disks.scratch(signal);
  const image: Disk = { serial: imageSerial, path: await disks.image(signal), readonly: true };
  const writable: Disk = { serial: scratchSerial, path: scratch.path, readonly: false };
  const { vm } = guest;
  await whileRunning(vm, 'warming up', signal, async (alive) => {
    await vm.fillSlot('image', image, alive);
    await vm.fillSlot('scratch', writable, alive);
    await personalizeGuest(guest, containerId, alive);
    await runIdle(guest, { ...idleContainer, rootfs: diskRoot, files }, alive);
    await vm.fillSlot('image', 'empty', alive);
    await vm.fillSlot('scratch', 'empty', alive);
  });
}

/** As warmGuest, in a guest whose containers have their root in a share. */
export async function warmServedGuest(guest: GuestVm, root: ShareRoot, signal: AbortSignal): Promise<void> {
  await whileRunning(guest.vm, 'warming up', signal, async (alive) => {
    await personalizeGuest(guest, containerId, alive);
    await runIdle(guest, { ...idleContainer, rootfs: { case: 'share', value: root } }, alive);
  });
}

/** A directory of a share, below the root of its tree. */
export interface ShareRoot {
  readonly tag: string;
  readonly path: string;
}

/** Where an idle container mounts something. */
export const idleMountPoints: readonly string[] = defaultMounts.map(({ destination }) => destination);

async function runIdle(guest: GuestVm, container: CreateContainerInit, signal: AbortSignal): Promise<void> {
  const { client } = await guest.agent(signal);
  await client.createContainer(container, signal);
  const [exitCode] = await Promise.all([exitOf(client, signal), client.startContainer(containerId, signal)]);
  if (exitCode !== 0) {
    const id = guest.vm.record.id;
    throw new HrunError('AGENT_PROTOCOL', `the warm-up of microVM ${id} ended with ${exitCode}`);
  }
  await client.deleteContainer(containerId, signal);
}

/** What a container to come will have as its root. */
export interface ReadyRoot {
  readonly image: { readonly id: string; readonly path: string; readonly fs: string };
  /** Of the one that asked last: its files are read ahead. */
  readonly process: ProcessInit;
}

/** Has a warm guest mount the root of a container that may come, and gives its writable disk. */
export async function prepareRoot(
  guest: GuestVm,
  root: ReadyRoot,
  scratchPath: string,
  signal: AbortSignal,
): Promise<void> {
  const { vm } = guest;
  await whileRunning(vm, 'getting ready', signal, async (alive) => {
    await vm.fillSlot('image', { serial: imageSerial, path: root.image.path, readonly: true }, alive);
    await vm.fillSlot('scratch', { serial: scratchSerial, path: scratchPath, readonly: false }, alive);
    const { client } = await guest.agent(alive);
    const disks = { imageSerial, imageFs: root.image.fs, scratchSerial };
    await client.prepareRoot({ disks, process: root.process }, alive);
  });
}

/** As a container of `hrun run` is, so that its ways through the kernel are the ones that are warm. */
const idleContainer = {
  containerId,
  hostname: containerId,
  mounts: defaultMounts.map(({ destination, type, source, options }) => ({
    destination,
    options: [...options],
    source: { case: 'kernel', value: { type, source } },
  })),
  devices: defaultDevices.map((device) => ({ ...device })),
  maskedPaths: [...maskedPaths],
  readonlyPaths: [...readonlyPaths],
  process: { args: ['/proc/self/exe', 'warm-up'], env: ['PATH=/bin'], cwd: '/', user: '0' },
} as const satisfies CreateContainerInit;

const diskRoot = { case: 'disks', value: { imageSerial, imageFs: 'ext4', scratchSerial } } as const;

const files = ['hostname', 'hosts', 'resolv.conf'].map((name) => ({
  destination: `/etc/${name}`,
  content: Buffer.from('\n'),
  mode: 0o644,
}));

async function exitOf(client: AgentClient, signal: AbortSignal): Promise<number> {
  return await withCancel(signal, async (inner) => {
    using attachment = await client.attach({ containerId, processId }, inner);
    for await (const output of attachment.outputs) {
      if (output.case === 'exit') return output.value.code;
    }
    throw new HrunError('AGENT_PROTOCOL', 'the agent told no end of the warm-up');
  });
}
