import { HrunError } from '../../base/errors.ts';
import type { Disk } from '../microVm.ts';

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

/** @throws HrunError INVALID_ARGUMENT unless `serial` is 1 to 20 of [a-z0-9-], what virtio-blk can carry */
export function checkSerial(serial: string): string {
  if (/^[a-z0-9-]{1,20}$/.test(serial)) return serial;
  throw new HrunError('INVALID_ARGUMENT', `${JSON.stringify(serial)} is no serial number of a disk`);
}
