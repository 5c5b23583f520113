import { HrunError } from '../../base/errors.ts';
import type { Disk, DiskSlot } from '../microVm.ts';

/** A blockdev node for a raw image, for -blockdev and blockdev-add. QEMU locks the file: one writer or many readers. */
export function blockNode(nodeName: string, disk: Disk): object {
  const discard = disk.readonly ? 'ignore' : 'unmap';
  return {
    driver: 'raw',
    'node-name': nodeName,
    'read-only': disk.readonly,
    discard,
    file: { driver: 'file', filename: disk.path, 'read-only': disk.readonly, discard },
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

/** The node below a slot's. QEMU locks the file: one writer or many readers. */
export function slotFile(slot: DiskSlot, disk: Disk | 'empty'): object {
  if (disk === 'empty') return { driver: 'null-co', size: emptyBytes, 'read-zeroes': true };
  const readonly = isReadonlySlot(slot);
  if (disk.readonly !== readonly) {
    throw new HrunError(
      'INVALID_ARGUMENT',
      `the ${slot} slot takes no ${readonly ? 'writable' : 'read-only'} disk`,
    );
  }
  const discard = readonly ? 'ignore' : 'unmap';
  return { driver: 'file', filename: disk.path, 'read-only': readonly, discard };
}

function isReadonlySlot(slot: DiskSlot): boolean {
  return slot === 'image';
}

/** @throws HrunError INVALID_ARGUMENT unless `serial` is 1 to 20 of [a-z0-9-], what virtio-blk can carry */
export function checkSerial(serial: string): string {
  if (/^[a-z0-9-]{1,20}$/.test(serial)) return serial;
  throw new HrunError('INVALID_ARGUMENT', `${JSON.stringify(serial)} is no serial number of a disk`);
}
