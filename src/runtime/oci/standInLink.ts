import { createConnection, type Socket } from 'node:net';
import { abortable } from '../../base/abort.ts';
import { HrunError, isHrunError, messageOf } from '../../base/errors.ts';
import { peerCredentials } from '../../sys/peerCredentials.ts';
import { identifyProcess, type ProcessIdentity, signalProcess } from '../../sys/processes.ts';
import type { TerminalSize } from '../attachIo.ts';
import { protocolError } from '../wire/frameBody.ts';
import { closeSharesFrame, exitFrame, outgrowFrame } from '../wire/frames.ts';
import { InputFlow } from '../wire/inputFlow.ts';
import { OutputFlow } from '../wire/outputFlow.ts';
import {
  parseStandInFrame,
  type StandInFrame,
  type StandInHello,
  standInFrameSplitter,
} from '../wire/standInFrames.ts';

const sigkill = 9;
/** Most signals that are kept until somebody listens. */
const maxKeptSignals = 16;

/** What a stand-in lends: its stdio, its terminal, and its exit code. */
export class StandInLink implements Disposable {
  readonly process: ProcessIdentity;
  readonly stdin: InputFlow;
  readonly stdout: OutputFlow;
  readonly stderr: OutputFlow;
  readonly #socket: Socket;
  readonly #gone = new AbortController();
  readonly #sharesClosed = Promise.withResolvers<void>();
  readonly #outgrown = Promise.withResolvers<void>();
  readonly #exited = Promise.withResolvers<void>();
  readonly #sizeListeners = new Set<(size: TerminalSize) => void>();
  readonly #signalListeners = new Set<(signal: number) => void>();
  #keptSignals: number[] = [];
  #terminalSize: TerminalSize | undefined;
  #exiting = false;
  #left = false;

  private constructor(socket: Socket, process: ProcessIdentity, hello: StandInHello) {
    this.#socket = socket;
    this.process = process;
    const send = (frame: Buffer) => void (socket.writable && socket.write(frame));
    this.stdin = new InputFlow(send);
    this.stdout = new OutputFlow('stdout', send, hello.stdoutReceived);
    this.stderr = new OutputFlow('stderr', send, hello.stderrReceived);
    for (const promise of [this.#sharesClosed.promise, this.#exited.promise]) promise.catch(() => {});
    this.#resize(hello);
  }

  /** Dials a stand-in and waits for its HELLO. @throws HrunError WIRE_PROTOCOL when there is none */
  static async dial(controlPath: string, signal: AbortSignal): Promise<StandInLink> {
    const socket = createConnection({ path: controlPath });
    const opened = Promise.withResolvers<StandInLink>();
    opened.promise.catch(() => {});
    const splitter = standInFrameSplitter();
    let link: StandInLink | undefined;
    let early: StandInFrame[] | undefined;
    const open = async (hello: StandInHello) => {
      const process = await identifyProcess(peerCredentials(socket).pid);
      if (process === undefined) throw lostStandIn();
      link = new StandInLink(socket, process, hello);
      for (const frame of early ?? []) link.#receive(frame);
      early = undefined;
      opened.resolve(link);
    };
    const fail = (error: unknown) => {
      opened.reject(error);
      if (link !== undefined) link.#lose(isHrunError(error) ? error : protocolError(messageOf(error)));
      socket.destroy();
    };
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const { type, body } of splitter.push(chunk)) {
          const frame = parseStandInFrame(type, body);
          if (link !== undefined) link.#receive(frame);
          else if (early !== undefined) early.push(frame);
          else if (frame.type === 'hello') {
            early = [];
            open(frame.hello).catch(fail);
          } else throw protocolError(`${frame.type} before its HELLO`);
        }
      } catch (error) {
        fail(error);
      }
    });
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => fail(lostStandIn()));
    try {
      return await abortable(opened.promise, signal);
    } catch (error) {
      // Nobody will ever come back to it.
      socket.end(exitFrame(125));
      throw error;
    }
  }

  /** Aborted when the stand-in is gone: it was killed, or told to exit. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  get terminalSize(): TerminalSize | undefined {
    return this.#terminalSize;
  }

  onResize(listener: (size: TerminalSize) => void): Disposable {
    this.#sizeListeners.add(listener);
    return { [Symbol.dispose]: () => void this.#sizeListeners.delete(listener) };
  }

  /** Signals that somebody sent to the stand-in's own pid. */
  onSignal(listener: (signal: number) => void): Disposable {
    this.#signalListeners.add(listener);
    for (const signal of this.#keptSignals.splice(0)) listener(signal);
    return { [Symbol.dispose]: () => void this.#signalListeners.delete(listener) };
  }

  /** Ends the share server and takes the binds away. A stand-in that is gone has taken them with it. */
  async closeShares(signal: AbortSignal): Promise<void> {
    if (this.gone.aborted) return;
    this.#socket.write(closeSharesFrame());
    await abortable(this.#sharesClosed.promise, signal);
  }

  /** Has a child of the stand-in take memory until the kernel kills it. */
  async outgrow(signal: AbortSignal): Promise<void> {
    if (this.gone.aborted) return;
    this.#socket.write(outgrowFrame());
    await abortable(this.#outgrown.promise, signal);
  }

  /** Lets the stand-in write what it has and exit with `code`. Settles at once when it is gone. */
  async exit(code: number, signal: AbortSignal): Promise<void> {
    if (this.gone.aborted) return;
    this.#exiting = true;
    this.#socket.write(exitFrame(code));
    await abortable(this.#exited.promise, signal);
  }

  async kill(): Promise<void> {
    await signalProcess(this.process, sigkill);
  }

  /** Leaves the stand-in as it is, for the next daemon. */
  [Symbol.dispose](): void {
    this.#left = true;
    this.#socket.destroy();
  }

  #receive(frame: StandInFrame): void {
    switch (frame.type) {
      case 'stdin':
        this.stdin.receive(frame.offset, frame.bytes);
        break;
      case 'stdinEnd':
        this.stdin.end(frame.offset);
        break;
      case 'window':
        this.#resize(frame);
        break;
      case 'signal':
        this.#signal(frame.number);
        break;
      case 'written':
        this[frame.stream].acknowledge(frame.offset);
        break;
      case 'outputGone':
        this[frame.stream].close();
        break;
      case 'serverEnded':
        this.#lose(new HrunError('VM_DIED', `the share server ended: ${frame.how}`));
        break;
      case 'sharesClosed':
        this.#sharesClosed.resolve();
        break;
      case 'outgrown':
        this.#outgrown.resolve();
        break;
      case 'exitAck':
        this.#exited.resolve();
        break;
      default:
        throw protocolError(`${frame.type} a second time`);
    }
  }

  /** Without its connection a stand-in is of no use: one that still lives is ended. */
  #lose(reason: HrunError): void {
    if (this.gone.aborted || this.#left) return;
    if (!this.#exiting) this.kill().catch(() => {});
    this.#gone.abort(reason);
    this.#exited.resolve();
    this.#sharesClosed.resolve();
    this.#outgrown.resolve();
    for (const flow of [this.stdin, this.stdout, this.stderr]) flow.fail(reason);
  }

  #resize({ rows, columns }: TerminalSize): void {
    if (rows === 0 && columns === 0) return;
    this.#terminalSize = { rows, columns };
    for (const listener of [...this.#sizeListeners]) listener({ rows, columns });
  }

  #signal(number: number): void {
    if (number < 1 || number > 64) throw protocolError(`signal number ${number}`);
    if (this.#signalListeners.size > 0) {
      for (const listener of [...this.#signalListeners]) listener(number);
    } else if (this.#keptSignals.length < maxKeptSignals) this.#keptSignals.push(number);
  }
}

function lostStandIn(): HrunError {
  return new HrunError('VM_DIED', 'the stand-in is gone');
}
