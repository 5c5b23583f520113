import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';

/**
 * The records that an output log consists of, each a 32-byte little-endian header and its bytes:
 *
 *     0  u8   stream: 1 stdout (with a terminal: everything), 2 stderr
 *     1  u24  check: CRC-32 of the header with these three bytes zero, its low bits; 0 in records of before there was one
 *     4  u32  length of the bytes, 1 to 1 MiB
 *     8  u64  offset of the first byte in its stream
 *    16  u64  length of the other stream so far
 *    24  u64  when the daemon received it, nanoseconds since the epoch
 *
 * So the last record tells how far both streams are.
 */
export const headerBytes = 32;
const maxRecordBytes = 1024 * 1024;

export type OutputStream = 'stdout' | 'stderr';

/** First byte of each stream that a reader does not have yet. */
export interface OutputPosition {
  stdout: bigint;
  stderr: bigint;
}

export interface OutputRecord {
  readonly stream: OutputStream;
  readonly offset: bigint;
  readonly timeNs: bigint;
  readonly data: Uint8Array;
}

export function otherThan(stream: OutputStream): OutputStream {
  return stream === 'stdout' ? 'stderr' : 'stdout';
}

/** @param otherLength of the stream that the record is not of */
export function recordHeader({ stream, offset, timeNs, data }: OutputRecord, otherLength: bigint): Buffer {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt8(stream === 'stdout' ? 1 : 2, 0);
  header.writeUInt32LE(data.length, 4);
  header.writeBigUInt64LE(offset, 8);
  header.writeBigUInt64LE(otherLength, 16);
  header.writeBigUInt64LE(timeNs, 24);
  header.writeUIntLE(checkOf(header), 1, 3);
  return header;
}

/** Reads the record at `position`; undefined at the end, or for one that is torn or damaged. */
export async function readRecord(
  file: FileHandle,
  position: number,
  end: number,
): Promise<{ record: OutputRecord; next: number } | undefined> {
  const header = await readHeader(file, position, end);
  if (header === undefined) return undefined;
  const data = Buffer.alloc(header.length);
  await file.read(data, 0, header.length, position + headerBytes);
  const { stream, offset, timeNs } = header;
  return { record: { stream, offset, timeNs, data }, next: position + headerBytes + header.length };
}

/**
 * Where the last good record of a file ends, and how long both streams are by then.
 * @param base how long they were before
 */
export async function scanRecords(
  file: FileHandle,
  size: number,
  base: Readonly<OutputPosition>,
): Promise<{ end: number; lengths: OutputPosition }> {
  const lengths: OutputPosition = { ...base };
  let end = 0;
  for (;;) {
    const header = await readHeader(file, end, size);
    if (header === undefined) return { end, lengths };
    const { stream, offset, otherLength, length, isChecked } = header;
    const other = otherThan(stream);
    // nothing was left out in the days of records without a check
    const isNext = offset === lengths[stream] && otherLength === lengths[other];
    if (!isChecked && end > 0 && !isNext) return { end, lengths };
    // what could not be written is missing between two records; a record never begins before the end of another
    if (offset < lengths[stream] || otherLength < lengths[other]) return { end, lengths };
    lengths[stream] = offset + BigInt(length);
    lengths[other] = otherLength;
    end += headerBytes + length;
  }
}

interface Header {
  readonly stream: OutputStream;
  readonly length: number;
  readonly offset: bigint;
  readonly otherLength: bigint;
  readonly timeNs: bigint;
  readonly isChecked: boolean;
}

async function readHeader(file: FileHandle, position: number, end: number): Promise<Header | undefined> {
  if (position + headerBytes > end) return undefined;
  const bytes = Buffer.alloc(headerBytes);
  const { bytesRead } = await file.read(bytes, 0, headerBytes, position);
  const kind = bytes.readUInt8(0);
  const length = bytes.readUInt32LE(4);
  const whole = bytesRead === headerBytes && position + headerBytes + length <= end;
  if (!whole || (kind !== 1 && kind !== 2) || length === 0 || length > maxRecordBytes) return undefined;
  const check = bytes.readUIntLE(1, 3);
  if (check !== 0 && check !== checkOf(bytes)) return undefined;
  return {
    stream: kind === 1 ? 'stdout' : 'stderr',
    length,
    offset: bytes.readBigUInt64LE(8),
    otherLength: bytes.readBigUInt64LE(16),
    timeNs: bytes.readBigUInt64LE(24),
    isChecked: check !== 0,
  };
}

/** 1 to 2^24 - 1 */
function checkOf(header: Buffer): number {
  const unchecked = Buffer.from(header);
  unchecked.writeUIntLE(0, 1, 3);
  return crc32(unchecked) & 0xff_ffff || 1;
}
