import { Duplex } from 'node:stream';
import { FrameReader, frameHeader, frameType, maxFrameDataBytes } from '../../src/agent/linkFrames.ts';

/** The guest's end of docs/link.md over a port: calls `serve` with the stream of each new epoch. */
export class GuestLink {
  readonly #port: Duplex;
  readonly #serve: (stream: Duplex) => void;
  readonly #reader = new FrameReader();
  #epoch = 0n;
  #stream: Duplex | undefined;
  #sawData = false;
  /** OPEN frames to swallow, as the tail of a broken frame would. */
  loseOpens = 0;

  constructor(port: Duplex, serve: (stream: Duplex) => void) {
    this.#port = port;
    this.#serve = serve;
    port.on('data', (bytes: Buffer) => {
      for (const frame of this.#reader.read(bytes)) this.#handle(frame.epoch, frame.type, frame.data);
    });
    port.on('error', () => {});
    port.on('close', () => this.#stream?.destroy());
  }

  get epoch(): bigint {
    return this.#epoch;
  }

  send(epoch: bigint, type: number, data: Buffer = Buffer.alloc(0)): void {
    this.#port.write(Buffer.concat([frameHeader(epoch, type, data.length), data]));
  }

  #handle(epoch: bigint, type: number, data: Buffer): void {
    if (type === frameType.open) this.#open(epoch);
    else if (epoch !== this.#epoch) return;
    else if (type === frameType.data) {
      this.#sawData = true;
      this.#stream?.push(data);
    } else if (type === frameType.close) this.#stream?.push(null);
  }

  #open(epoch: bigint): void {
    if (this.loseOpens > 0) {
      this.loseOpens -= 1;
      return;
    }
    if (epoch === this.#epoch && this.#sawData) return;
    const isNew = epoch !== this.#epoch;
    if (isNew) this.#stream?.destroy();
    this.#epoch = epoch;
    this.#sawData = false;
    this.send(epoch, frameType.opened);
    if (isNew) {
      this.#stream = this.#newStream(epoch);
      this.#serve(this.#stream);
    }
  }

  #newStream(epoch: bigint): Duplex {
    const stream = new Duplex({
      read: () => {},
      write: (chunk: Buffer, _encoding, done) => {
        for (let start = 0; start < chunk.length; start += maxFrameDataBytes) {
          this.send(epoch, frameType.data, chunk.subarray(start, start + maxFrameDataBytes));
        }
        if (this.#port.writableNeedDrain) this.#port.once('drain', () => done());
        else done();
      },
      final: (done) => {
        this.send(epoch, frameType.close);
        done();
      },
    });
    stream.on('error', () => {});
    return stream;
  }
}
