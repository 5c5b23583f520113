import { randomBytes } from 'node:crypto';
import { Duplex } from 'node:stream';
import { abortable, withCancel } from '../base/abort.ts';
import { backoff } from '../base/backoff.ts';
import { HrunError } from '../base/errors.ts';
import {
  type Frame,
  FrameReader,
  frameHeader,
  frameHeaderBytes,
  frameType,
  maxFrameDataBytes,
} from './linkFrames.ts';

/** Bytes that a guest may send outside its epoch: leftovers of earlier ones before OPENED, hardly any after it. */
const maxStrayBytesBeforeOpened = 8 * 1024 * 1024;
const maxStrayBytes = 1024 * 1024;
/** The OPEN before which the rest of any broken frame is filled up. */
const paddedAttempt = 6;

/**
 * Opens a fresh epoch of docs/link.md over a serial port and returns its byte stream, which owns the port.
 * @throws HrunError AGENT_UNREACHABLE when the port closes, AGENT_PROTOCOL when the guest talks nonsense without end
 */
export async function openLink(port: Duplex, signal: AbortSignal): Promise<Duplex> {
  const stream = new LinkStream(port);
  try {
    await withCancel(signal, async (repeating, stopRepeating) => {
      const sending = repeatOpen(stream, repeating);
      try {
        await abortable(Promise.race([stream.opened, sending]), signal);
      } finally {
        stopRepeating(new Error('opened'));
        await sending.catch(() => {});
      }
    });
    return stream;
  } catch (cause) {
    stream.destroy();
    throw cause;
  }
}

/** Until the guest answers: it may not have its end open yet, or wait for the rest of a frame of a host that died. */
async function repeatOpen(stream: LinkStream, signal: AbortSignal): Promise<never> {
  const pauses = backoff(1, 100);
  for (let attempt = 1; ; attempt += 1) {
    if (attempt === paddedAttempt) stream.sendPadding();
    stream.sendOpen();
    await pauses.pause(signal);
  }
}

class LinkStream extends Duplex {
  readonly opened: Promise<void>;
  readonly #port: Duplex;
  readonly #epoch = randomEpoch();
  readonly #reader = new FrameReader();
  readonly #opened = Promise.withResolvers<void>();
  #isOpen = false;
  #hasEnded = false;
  #strayFrameBytes = 0;
  #resumeWrite: (() => void) | undefined;

  constructor(port: Duplex) {
    super({ allowHalfOpen: false });
    this.#port = port;
    this.opened = this.#opened.promise;
    this.opened.catch(() => {});
    // before OPENED the caller learns of a failure through `opened`
    this.on('error', () => {});
    port.on('data', (bytes: Buffer) => this.#receive(bytes));
    port.on('drain', () => {
      const resume = this.#resumeWrite;
      this.#resumeWrite = undefined;
      resume?.();
    });
    port.on('error', (cause) => this.destroy(unreachable(cause)));
    port.on('close', () => this.destroy(unreachable()));
    port.on('end', () => this.destroy(unreachable()));
  }

  sendOpen(): void {
    // a guest that reads nothing gets no more of them
    if (!this.#port.writableNeedDrain) this.#port.write(frameHeader(this.#epoch, frameType.open, 0));
  }

  /** A frame of no epoch, as long as the longest that can be unfinished in the guest. */
  sendPadding(): void {
    this.#port.write(frameHeader(0n, frameType.data, maxFrameDataBytes));
    this.#port.write(Buffer.alloc(maxFrameDataBytes));
  }

  override _read(): void {
    this.#port.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#port.cork();
    for (let start = 0; start < chunk.length; start += maxFrameDataBytes) {
      const data = chunk.subarray(start, start + maxFrameDataBytes);
      this.#port.write(frameHeader(this.#epoch, frameType.data, data.length));
      this.#port.write(data);
    }
    this.#port.uncork();
    if (this.#port.writableNeedDrain) this.#resumeWrite = done;
    else done();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#sendClose();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#opened.reject(error ?? unreachable());
    if (!this.writableFinished) this.#sendClose();
    this.#port.destroy();
    done(error);
  }

  #sendClose(): void {
    if (this.#isOpen && this.#port.writable) {
      this.#port.write(frameHeader(this.#epoch, frameType.close, 0));
    }
  }

  #receive(bytes: Buffer): void {
    let wantsMore = true;
    for (const frame of this.#reader.read(bytes)) {
      if (this.#isOfUse(frame)) wantsMore = this.#accept(frame) && wantsMore;
      else this.#strayFrameBytes += frame.data.length + frameHeaderBytes;
    }
    if (!wantsMore) this.#port.pause();
    const limit = this.#isOpen ? maxStrayBytes : maxStrayBytesBeforeOpened;
    if (this.#reader.droppedBytes + this.#strayFrameBytes > limit) {
      this.destroy(new HrunError('AGENT_PROTOCOL', `the guest sent more than ${limit} bytes of no use`));
    }
  }

  /** Whether a frame is one that may come now: any other could be sent without end. */
  #isOfUse({ epoch, flags, type, data }: Frame): boolean {
    if (epoch !== this.#epoch || flags !== 0 || this.#hasEnded) return false;
    if (!this.#isOpen) return type === frameType.opened;
    return type === frameType.close || (type === frameType.data && data.length > 0);
  }

  /** @returns false when the consumer wants a pause */
  #accept({ type, data }: Frame): boolean {
    if (type === frameType.opened) {
      this.#isOpen = true;
      this.#reader.droppedBytes = 0;
      this.#strayFrameBytes = 0;
      this.#opened.resolve();
      return true;
    }
    if (type === frameType.data) return this.push(data);
    this.#hasEnded = true;
    this.push(null);
    return true;
  }
}

function unreachable(cause?: unknown): HrunError {
  return new HrunError('AGENT_UNREACHABLE', "the channel to the microVM's agent was closed", { cause });
}

function randomEpoch(): bigint {
  for (;;) {
    const epoch = randomBytes(8).readBigUInt64LE();
    if (epoch !== 0n) return epoch;
  }
}
