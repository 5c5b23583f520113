import { createConnection, type Socket } from 'node:net';
import { Change } from '../base/change.ts';
import { HrunError } from '../base/errors.ts';
import { FrameSplitter } from '../base/frameSplitter.ts';

/** Everything that a stand-in without stdio says is short. */
const maxFrameBytes = 64 * 1024;
const types = {
  hello: 0x01,
  exitAck: 0x08,
  serverEnded: 0x0b,
  sharesClosed: 0x0c,
  exit: 0x89,
  closeShares: 0x8c,
} as const;

/** The control connection to a stand-in that serves shares (docs/stand-in.md). */
export class StandIn implements Disposable {
  readonly #socket: Socket;
  readonly #seen = new Set<number>();
  readonly #changed = new Change();
  #lost: HrunError | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const splitter = new FrameSplitter(() => maxFrameBytes);
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const { type } of splitter.push(chunk)) this.#seen.add(type);
      } catch {
        socket.destroy();
      }
      this.#changed.notify();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#lost = new HrunError('WIRE_PROTOCOL', 'the connection to the stand-in was lost');
      this.#changed.notify();
    });
  }

  /** Dials and waits for the stand-in's HELLO. @throws HrunError WIRE_PROTOCOL when there is none */
  static async dial(controlPath: string, signal: AbortSignal): Promise<StandIn> {
    const standIn = new StandIn(createConnection({ path: controlPath }));
    try {
      await standIn.#saw(types.hello, signal);
      return standIn;
    } catch (error) {
      // Nobody will ever come back to it.
      standIn.#send(types.exit, 125);
      standIn.#socket.end();
      throw error;
    }
  }

  /** Ends the share server and takes the binds away, so that the caller's file systems are free. */
  async closeShares(signal: AbortSignal): Promise<void> {
    this.#send(types.closeShares);
    await this.#saw(types.sharesClosed, signal);
  }

  /** Lets the stand-in exit with `code`. */
  async exit(code: number, signal: AbortSignal): Promise<void> {
    this.#send(types.exit, code);
    await this.#saw(types.exitAck, signal);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  #send(type: number, ...body: number[]): void {
    const head = Buffer.alloc(4);
    head.writeUInt32LE(1 + body.length);
    this.#socket.write(Buffer.concat([head, Buffer.of(type, ...body)]));
  }

  async #saw(type: number, signal: AbortSignal): Promise<void> {
    while (!this.#seen.has(type)) {
      if (this.#lost !== undefined) throw this.#lost;
      await this.#changed.next(signal);
    }
  }
}
