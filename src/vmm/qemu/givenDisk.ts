import { randomInt } from 'node:crypto';
import { HrunError } from '../../base/errors.ts';
import { allowFileSize } from '../../sys/processes.ts';
import type { Disk, OpenDisk } from '../microVm.ts';
import { openDisk } from './hostFile.ts';
import type { QmpConnection } from './qmp.ts';

/** Far above the numbers of descriptors, which the sets of a cold boot are called by. */
const firstFdset = 2 ** 20;

/**
 * Hands QEMU the descriptor of a disk image, in a set of its own, and lets it write as much as that image has.
 * @param pid of QEMU
 * @returns the number of the set: at random, because nobody who comes after a crash knows the ones in use
 * @throws HrunError QEMU_FAILED naming the file, also when it is larger than QEMU may write and that cannot be changed
 */
export async function giveDisk(
  qmp: QmpConnection,
  pid: number,
  disk: Disk,
  signal: AbortSignal,
): Promise<number> {
  using file = openDisk(disk);
  if (!disk.readonly) await allowDisk(pid, disk.path, file.sizeBytes);
  return await giveDescriptor(qmp, file.fd, signal);
}

/** As `giveDisk`, of a disk that is open already. */
export async function giveOpenDisk(
  qmp: QmpConnection,
  pid: number,
  { serial, fd, kind, readonly, mostBytes }: OpenDisk,
  signal: AbortSignal,
): Promise<number> {
  if (!readonly && kind === 'file') await allowDisk(pid, `the disk "${serial}"`, mostBytes);
  return await giveDescriptor(qmp, fd, signal);
}

async function giveDescriptor(qmp: QmpConnection, fd: number, signal: AbortSignal): Promise<number> {
  const fdset = randomInt(firstFdset, 2 ** 31);
  await qmp.executeWithDescriptor('add-fd', { 'fdset-id': fdset }, fd, signal);
  return fdset;
}

async function allowDisk(pid: number, subject: string, sizeBytes: number): Promise<void> {
  try {
    await allowFileSize(pid, sizeBytes);
  } catch (cause) {
    throw new HrunError(
      'QEMU_FAILED',
      `a QEMU that runs already cannot be given ${subject}: it is too large`,
      {
        cause,
      },
    );
  }
}

/**
 * Closes the descriptor that was handed over: at once, or when the guest runs again. A node that was opened from it has a
 * copy.
 */
export async function takeBack(qmp: QmpConnection, fdset: number, signal: AbortSignal): Promise<void> {
  await qmp.execute('remove-fd', { 'fdset-id': fdset }, signal);
}
