import { HrunError } from '../../base/errors.ts';

/** As much of a header as is looked at. */
export const qcow2HeaderBytes = 80;

const magic = 0x5146_49fb;
/** Incompatible features of docs/interop/qcow2.txt that change nothing about which files are opened: dirty, compression type, extended L2 entries. */
const harmless = (1n << 0n) | (1n << 3n) | (1n << 4n);
/** Tables and reference counts take less than this with the smallest clusters there are, 512 bytes. */
const tablesFactor = 1.1;
const fixedBytes = 64 * 1024 * 1024;
const corrupt = 1n << 1n;
const externalData = 1n << 2n;

/**
 * Refuses a qcow2 that would have QEMU open other files, or that it could not use.
 * @param header the first bytes of the file, fewer if it is shorter
 * @returns what the file may grow to: all of the disk, and the tables that say where it is
 * @throws HrunError INVALID_ARGUMENT naming `subject`
 */
export function checkQcow2(header: Buffer, subject: string): number {
  const refuse = (why: string): never => {
    throw new HrunError('INVALID_ARGUMENT', `${subject} ${why}`);
  };
  if (header.length < qcow2HeaderBytes || header.readUInt32BE(0) !== magic) refuse('is no qcow2 image');
  const version = header.readUInt32BE(4);
  if (version !== 2 && version !== 3)
    refuse(`is a qcow2 image of version ${version}, which is not supported`);
  if (header.readBigUInt64BE(8) !== 0n || header.readUInt32BE(16) !== 0) {
    refuse('has a backing file, which is not supported');
  }
  if (header.readUInt32BE(32) !== 0) refuse('is encrypted, which is not supported');
  const features = version === 2 ? 0n : header.readBigUInt64BE(72);
  if ((features & externalData) !== 0n) refuse('has an external data file, which is not supported');
  if ((features & corrupt) !== 0n) refuse('is marked as corrupt');
  if ((features & ~harmless) !== 0n) refuse('has features that are not known');
  return Math.ceil(Number(header.readBigUInt64BE(24)) * tablesFactor) + fixedBytes;
}
