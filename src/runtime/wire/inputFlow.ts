import { Change } from '../../base/change.ts';
import type { InputChannel, InputPiece } from '../attachIo.ts';
import { protocolError } from './frameBody.ts';
import { stdinClosedFrame, stdinOpenFrame } from './frames.ts';

/** What the front door may send, and must keep, beyond what was accepted. */
const windowBytes = 64n * 1024n;

/** The stdin of a front door: read on demand, kept there until accepted. */
export class InputFlow implements InputChannel {
  readonly #send: (frame: Buffer) => void;
  readonly #change = new Change();
  #pieces: InputPiece[] = [];
  #opened = false;
  #closed = false;
  #ended = false;
  #accepted = 0n;
  #limit = 0n;
  /** Offset of the next byte that may arrive. */
  #next = 0n;
  #failure: { readonly reason: unknown } | undefined;

  constructor(send: (frame: Buffer) => void) {
    this.#send = send;
  }

  async *read(from: bigint, signal: AbortSignal): AsyncGenerator<InputPiece> {
    if (!this.#opened) {
      this.#opened = true;
      this.#next = from;
      this.#accepted = from;
      this.#open();
    }
    for (;;) {
      if (this.#closed) return;
      const piece = this.#pieces.shift();
      if (piece !== undefined) {
        yield piece;
        continue;
      }
      if (this.#ended) return;
      if (this.#failure !== undefined) throw this.#failure.reason;
      await this.#change.next(signal);
    }
  }

  accept(offset: bigint): void {
    if (offset <= this.#accepted || this.#closed) return;
    this.#accepted = offset < this.#next ? offset : this.#next;
    if (this.#ended) return;
    // Not for every key that is typed: a quarter of the window at a time.
    if (this.#accepted + windowBytes - this.#limit >= windowBytes / 4n) this.#open();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#pieces = [];
    if (this.#opened) this.#send(stdinClosedFrame());
    this.#change.notify();
  }

  /** STDIN arrived. */
  receive(offset: bigint, bytes: Buffer): void {
    if (this.#closed) return;
    if (!this.#opened || offset > this.#next) throw protocolError('stdin out of order');
    const known = this.#next - offset;
    if (known >= BigInt(bytes.length)) return;
    const fresh = bytes.subarray(Number(known));
    const end = this.#next + BigInt(fresh.length);
    if (end > this.#limit || this.#ended) throw protocolError('more stdin than it may');
    this.#pieces.push({ offset: this.#next, bytes: fresh });
    this.#next = end;
    this.#change.notify();
  }

  /** STDIN_END arrived. */
  end(offset: bigint): void {
    if (this.#closed) return;
    if (!this.#opened || offset !== this.#next) throw protocolError('the end of stdin out of order');
    this.#ended = true;
    this.#change.notify();
  }

  /** The connection is lost. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#change.notify();
  }

  #open(): void {
    this.#limit = this.#accepted + windowBytes;
    this.#send(stdinOpenFrame(this.#accepted, this.#limit));
  }
}
