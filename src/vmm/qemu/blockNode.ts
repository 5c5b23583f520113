import { HrunError } from '../../base/errors.ts';
import type { Disk, DiskSlot, OpenDisk } from '../microVm.ts';

/** What QEMU knows instead of a path: a set of descriptors that were given to it. */
function fdsetPath(fdset: number): string {
  return `/dev/fdset/${fdset}`;
}

/**
 * A blockdev node for a raw image, for blockdev-add. QEMU locks the file: one writer or many readers.
 * @param fdset holds one descriptor of the image, opened as the disk says
 */
export function blockNode(nodeName: string, disk: Disk, fdset: number): object {
  const discard = disk.readonly ? 'ignore' : 'unmap';
  return {
    driver: 'raw',
    'node-name': nodeName,
    'read-only': disk.readonly,
    discard,
    file: { driver: 'file', filename: fdsetPath(fdset), 'read-only': disk.readonly, discard },
  };
}

/** The node of a disk that was open already; `fdset` as for blockNode. */
export function openDiskNode(nodeName: string, disk: OpenDisk, fdset: number): object {
  const common = { 'read-only': disk.readonly, discard: disk.readonly ? 'ignore' : 'unmap' };
  const file = disk.kind === 'block' ? { driver: 'host_device' } : { driver: 'file', locking: 'on' };
  return {
    driver: disk.format,
    'node-name': nodeName,
    ...common,
    // whatever its header says
    ...(disk.format === 'qcow2' && { backing: null }),
    file: { ...file, ...common, filename: fdsetPath(fdset) },
  };
}

/** What an empty slot shows: a disk of zeroes, larger than any that will take its place. */
const emptyBytes = 2 ** 40;

/**
 * The node of a slot, which stays while the file below it changes.
 * @param file an inline node, or the name of one
 */
export function slotNode(slot: DiskSlot, file: object | string): object {
  const readonly = isReadonlySlot(slot);
  return {
    driver: 'raw',
    'node-name': slot,
    'read-only': readonly,
    discard: readonly ? 'ignore' : 'unmap',
    file,
  };
}

/** The node below an empty slot's. */
export const emptyFile: object = { driver: 'null-co', size: emptyBytes, 'read-zeroes': true };

/**
 * The node below a slot's. QEMU locks the file: one writer or many readers.
 * @param fdset as for blockNode
 * @throws HrunError INVALID_ARGUMENT for a disk that the slot does not take
 */
export function slotFile(slot: DiskSlot, disk: Disk, fdset: number): object {
  const readonly = isReadonlySlot(slot);
  if (disk.readonly !== readonly) {
    throw new HrunError(
      'INVALID_ARGUMENT',
      `the ${slot} slot takes no ${readonly ? 'writable' : 'read-only'} disk`,
    );
  }
  const discard = readonly ? 'ignore' : 'unmap';
  return { driver: 'file', filename: fdsetPath(fdset), 'read-only': readonly, discard };
}

function isReadonlySlot(slot: DiskSlot): boolean {
  return slot === 'image';
}

/** @throws HrunError INVALID_ARGUMENT unless `serial` is 1 to 20 of [a-z0-9-], what virtio-blk can carry */
export function checkSerial(serial: string): string {
  if (/^[a-z0-9-]{1,20}$/.test(serial)) return serial;
  throw new HrunError('INVALID_ARGUMENT', `${JSON.stringify(serial)} is no serial number of a disk`);
}
