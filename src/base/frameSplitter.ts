import { HrunError } from './errors.ts';

/**
 * Cuts a byte stream into the frames of docs/wire.md and docs/stand-in.md: `u32 length · u8 type · body`, little-endian.
 * The bodies it hands out are views: copy what is kept.
 */
export class FrameSplitter {
  readonly #limitOf: (type: number) => number;
  #parts: Buffer[] = [];
  #length = 0;

  /** `limitOf`: most bytes of a frame of that type, the type's own byte included. */
  constructor(limitOf: (type: number) => number) {
    this.#limitOf = limitOf;
  }

  /**
   * Takes the next bytes and yields the frames that they complete.
   * @throws HrunError WIRE_PROTOCOL for a frame longer than the wire allows
   */
  *push(chunk: Buffer): Generator<{ readonly type: number; readonly body: Buffer }> {
    this.#parts.push(chunk);
    this.#length += chunk.length;
    while (this.#length >= 5) {
      const head = this.#gather(5);
      const length = head.readUInt32LE(0);
      const type = head.readUInt8(4);
      if (length < 1 || length > this.#limitOf(type)) {
        throw new HrunError('WIRE_PROTOCOL', `the other end of the wire sent a frame of ${length} bytes`);
      }
      if (this.#length < 4 + length) return;
      const frame = this.#gather(4 + length).subarray(0, 4 + length);
      this.#drop(4 + length);
      yield { type, body: frame.subarray(5) };
    }
  }

  /** The first part, made at least `length` bytes long. Parts are joined once per frame, not once per chunk. */
  #gather(length: number): Buffer {
    const first = this.#parts[0];
    if (first !== undefined && first.length >= length) return first;
    const joined = Buffer.concat(this.#parts);
    this.#parts = [joined];
    return joined;
  }

  #drop(length: number): void {
    const rest = this.#gather(length).subarray(length);
    this.#parts.shift();
    if (rest.length > 0) this.#parts.unshift(rest);
    this.#length -= length;
  }
}
