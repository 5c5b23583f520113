import { Writable } from 'node:stream';
import { Change } from '../../base/change.ts';
import { Mutex } from '../../base/mutex.ts';
import type { OutputChannel } from '../attachIo.ts';
import { maxChunkBytes, protocolError, type StreamName } from './frameBody.ts';
import { outputFrame } from './frames.ts';

/** Bytes that may be on their way beyond what the front door has written. */
const creditBytes = 256n * 1024n;
const never = new AbortController().signal;

/** One output descriptor of a front door: frames out, WRITTEN back. */
export class OutputFlow implements OutputChannel {
  readonly #stream: StreamName;
  readonly #send: (frame: Buffer) => void;
  readonly #closed = new AbortController();
  readonly #turn = new Mutex();
  readonly #change = new Change();
  #offset: bigint;
  #written: bigint;
  #failure: { readonly reason: unknown } | undefined;
  #writable: Writable | undefined;

  /** `from`: what the front door has received already, after RESUME. */
  constructor(stream: StreamName, send: (frame: Buffer) => void, from = 0n) {
    this.#stream = stream;
    this.#send = send;
    this.#offset = from;
    this.#written = from;
  }

  get offset(): bigint {
    return this.#offset;
  }

  get written(): bigint {
    return this.#written;
  }

  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  async write(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    using _turn = await this.#turn.lock(signal);
    for (let at = 0; at < bytes.length; at += maxChunkBytes) {
      const piece = bytes.subarray(at, at + maxChunkBytes);
      await this.#credit(BigInt(piece.length), signal);
      if (this.#closed.signal.aborted) return;
      this.#send(outputFrame(this.#stream, this.#offset, piece));
      this.#offset += BigInt(piece.length);
    }
  }

  async writtenBeyond(offset: bigint, signal: AbortSignal): Promise<bigint> {
    while (this.#written <= offset) {
      if (this.#closed.signal.aborted) return this.#written;
      this.#throwFailure();
      await this.#change.next(signal);
    }
    return this.#written;
  }

  get writable(): Writable {
    this.#writable ??= this.#openWritable();
    return this.#writable;
  }

  /** WRITTEN arrived. */
  acknowledge(offset: bigint): void {
    if (offset > this.#offset) throw protocolError(`WRITTEN for bytes of ${this.#stream} it never got`);
    if (offset <= this.#written) return;
    this.#written = offset;
    this.#change.notify();
  }

  /** OUTPUT_GONE arrived: nobody will ever read more. */
  close(): void {
    this.#written = this.#offset;
    this.#closed.abort();
    this.#change.notify();
  }

  /** The connection is lost: whoever waits or writes from now on gets `reason`. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#change.notify();
  }

  /** Settles when everything that was given to `write` or `writable` is on its way. */
  async flush(signal: AbortSignal): Promise<void> {
    const writable = this.#writable;
    if (writable !== undefined && writable.writableLength > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      writable.write('', () => resolve());
      await promise;
    }
    using _turn = await this.#turn.lock(signal);
  }

  async #credit(length: bigint, signal: AbortSignal): Promise<void> {
    for (;;) {
      this.#throwFailure();
      const inFlight = this.#offset - this.#written;
      if (this.#closed.signal.aborted || inFlight + length <= creditBytes) return;
      await this.#change.next(signal);
    }
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.reason;
  }

  #openWritable(): Writable {
    const writable = new Writable({
      decodeStrings: true,
      highWaterMark: maxChunkBytes,
      write: (chunk: Buffer, _encoding, done) => {
        this.write(chunk, never).then(() => done(), done);
      },
    });
    // A lost connection ends the command through its signal; the stream has nobody else to tell.
    writable.on('error', () => {});
    return writable;
  }
}
