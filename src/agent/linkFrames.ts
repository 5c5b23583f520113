import { crc32 } from 'node:zlib';

/** Frames of docs/link.md. */
export const frameHeaderBytes = 20;
export const maxFrameDataBytes = 32 * 1024;
const magic = Buffer.from('hRL1', 'latin1');

export const frameType = { open: 1, opened: 2, data: 3, close: 4 } as const;

export interface Frame {
  readonly epoch: bigint;
  /** One of `frameType`, or one that this side does not know. */
  readonly type: number;
  readonly flags: number;
  readonly data: Buffer;
}

/** A frame's header; up to 32 KiB of data follow it on the wire. */
export function frameHeader(epoch: bigint, type: number, dataBytes: number): Buffer {
  const header = Buffer.alloc(frameHeaderBytes);
  magic.copy(header);
  header.writeBigUInt64LE(epoch, 4);
  header.writeUInt8(type, 12);
  header.writeUInt16LE(dataBytes, 14);
  header.writeUInt32LE(crc32(header.subarray(0, 16)), 16);
  return header;
}

/** Finds frames in a stream that may hold anything; keeps at most one unfinished frame. */
export class FrameReader {
  /** Bytes that belonged to no frame. */
  droppedBytes = 0;
  #rest: Buffer = Buffer.alloc(0);

  /** Yields the frames that `bytes` completes. Their data is a view of received buffers. */
  *read(bytes: Buffer): Generator<Frame> {
    const buffer = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    let position = 0;
    for (;;) {
      const start = this.#findHeader(buffer, position);
      const frame = start.whole ? parseFrame(buffer, start.at) : undefined;
      if (frame === undefined) {
        this.#rest = Buffer.from(buffer.subarray(start.at));
        return;
      }
      position = start.at + frameHeaderBytes + frame.data.length;
      yield frame;
    }
  }

  /** Where the next header is, or (not whole) where one may be beginning. */
  #findHeader(buffer: Buffer, from: number): { at: number; whole: boolean } {
    let at = from;
    while (at + frameHeaderBytes <= buffer.length) {
      if (isHeader(buffer, at)) {
        this.droppedBytes += at - from;
        return { at, whole: true };
      }
      const next = buffer.indexOf(magic, at + 1);
      at = next < 0 ? Math.max(at + 1, buffer.length - magic.length + 1) : next;
    }
    while (at < buffer.length && !couldBeHeader(buffer, at)) at += 1;
    this.droppedBytes += at - from;
    return { at, whole: false };
  }
}

function isHeader(buffer: Buffer, at: number): boolean {
  return (
    magic.compare(buffer, at, at + magic.length) === 0 &&
    buffer.readUInt16LE(at + 14) <= maxFrameDataBytes &&
    buffer.readUInt32LE(at + 16) === crc32(buffer.subarray(at, at + 16))
  );
}

function couldBeHeader(buffer: Buffer, at: number): boolean {
  const length = Math.min(magic.length, buffer.length - at);
  return magic.compare(buffer, at, at + length, 0, length) === 0;
}

function parseFrame(buffer: Buffer, at: number): Frame | undefined {
  const end = at + frameHeaderBytes + buffer.readUInt16LE(at + 14);
  if (end > buffer.length) return undefined;
  return {
    epoch: buffer.readBigUInt64LE(at + 4),
    type: buffer.readUInt8(at + 12),
    flags: buffer.readUInt8(at + 13),
    data: buffer.subarray(at + frameHeaderBytes, end),
  };
}
