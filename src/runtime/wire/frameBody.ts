import { HrunError } from '../../base/errors.ts';

/** Most bytes of a stream in one frame. */
export const maxChunkBytes = 64 * 1024;

export type StreamName = 'stdout' | 'stderr';

/** @throws HrunError WIRE_PROTOCOL for a number that is no output stream's */
export function streamOf(number: number): StreamName {
  if (number === 1) return 'stdout';
  if (number === 2) return 'stderr';
  throw protocolError(`an output stream number ${number}`);
}

/** The body of a frame, field by field. Reading past its end is a protocol error. */
export class BodyReader {
  readonly #body: Buffer;
  #at = 0;

  constructor(body: Buffer) {
    this.#body = body;
  }

  bytes(length: number): Buffer {
    if (this.#at + length > this.#body.length) throw protocolError('a frame that ends too early');
    this.#at += length;
    return this.#body.subarray(this.#at - length, this.#at);
  }

  u8(): number {
    return this.bytes(1).readUInt8();
  }

  u16(): number {
    return this.bytes(2).readUInt16LE();
  }

  u32(): number {
    return this.bytes(4).readUInt32LE();
  }

  u64(): bigint {
    return this.bytes(8).readBigUInt64LE();
  }

  /** `u32 length` and UTF-8 JSON; nothing at all is an empty object. */
  json(): unknown {
    const text = this.bytes(this.u32()).toString('utf8');
    if (text === '') return {};
    try {
      return JSON.parse(text);
    } catch {
      throw protocolError('a frame with broken JSON');
    }
  }

  list(): Buffer[] {
    const count = this.u32();
    if (count > this.#body.length / 4) throw protocolError('a list longer than its frame');
    return Array.from({ length: count }, () => this.bytes(this.u32()));
  }

  rest(): Buffer {
    return this.bytes(this.#body.length - this.#at);
  }

  end(): void {
    if (this.#at !== this.#body.length) throw protocolError('a frame with bytes left over');
  }
}

/** The other end does not keep to docs/wire.md or docs/stand-in.md. */
export function protocolError(what: string): HrunError {
  return new HrunError('WIRE_PROTOCOL', `the other end of the wire sent ${what}`);
}
