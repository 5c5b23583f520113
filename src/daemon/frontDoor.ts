import type { Socket } from 'node:net';
import { HrunError } from '../base/errors.ts';
import type { TerminalSize } from '../runtime/attachIo.ts';
import { protocolError, type StreamName } from '../runtime/wire/frameBody.ts';
import { exitFrame, signalsFrame, terminalFrame } from '../runtime/wire/frames.ts';
import { InputFlow } from '../runtime/wire/inputFlow.ts';
import { OutputFlow } from '../runtime/wire/outputFlow.ts';
import { Hands } from './hands.ts';
import type { FrontFrame } from './wire.ts';

/** Most signals that are kept for a command that has not asked for them yet. */
const maxKeptSignals = 16;

/** The daemon's end of one connection: what the front door lends, as objects fed by its frames. */
export class FrontDoor {
  readonly stdin: InputFlow;
  readonly stdout: OutputFlow;
  readonly stderr: OutputFlow;
  readonly hands: Hands;
  readonly #socket: Socket;
  readonly #gone = new AbortController();
  readonly #exitAcknowledged = Promise.withResolvers<void>();
  readonly #resizeListeners = new Set<(size: TerminalSize) => void>();
  readonly #signalListeners = new Set<(signal: number) => void>();
  #keptSignals: number[] = [];
  #forwardsSignals = false;
  #rawCount = 0;
  #terminalSize: TerminalSize | undefined;

  /** `received`: what the front door already has of each stream, after RESUME. */
  constructor(
    socket: Socket,
    options: {
      readonly terminalSize?: TerminalSize | undefined;
      readonly received?: { readonly stdout: bigint; readonly stderr: bigint };
    } = {},
  ) {
    this.#socket = socket;
    this.#terminalSize = options.terminalSize;
    const send = (frame: Buffer) => this.send(frame);
    this.stdin = new InputFlow(send);
    this.stdout = new OutputFlow('stdout', send, options.received?.stdout);
    this.stderr = new OutputFlow('stderr', send, options.received?.stderr);
    this.hands = new Hands(send);
  }

  /** Aborted when the connection is lost, or `lose` was called. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  get terminalSize(): TerminalSize | undefined {
    return this.#terminalSize;
  }

  /** Frames for a front door that is gone are dropped. */
  send(frame: Buffer): void {
    if (!this.#socket.destroyed && this.#socket.writable) this.#socket.write(frame);
  }

  onResize(listener: (size: TerminalSize) => void): Disposable {
    this.#resizeListeners.add(listener);
    return { [Symbol.dispose]: () => void this.#resizeListeners.delete(listener) };
  }

  onSignal(listener: (signal: number) => void): Disposable {
    this.#signalListeners.add(listener);
    if (!this.#forwardsSignals) {
      this.#forwardsSignals = true;
      this.send(signalsFrame(true));
    }
    const kept = this.#keptSignals;
    this.#keptSignals = [];
    for (const signal of kept) listener(signal);
    return { [Symbol.dispose]: () => void this.#signalListeners.delete(listener) };
  }

  rawTerminal(): Disposable {
    this.#rawCount += 1;
    if (this.#rawCount === 1) this.send(terminalFrame(true));
    using undo = new DisposableStack();
    undo.defer(() => {
      this.#rawCount -= 1;
      if (this.#rawCount === 0) this.send(terminalFrame(false));
    });
    return undo.move();
  }

  /**
   * Tells the exit code after all output, and waits until it arrived.
   * @throws the reason of `gone` when the front door went away first
   */
  async exit(code: number): Promise<void> {
    await this.stdout.flush(this.gone);
    await this.stderr.flush(this.gone);
    this.send(exitFrame(code));
    this.gone.addEventListener('abort', () => this.#exitAcknowledged.reject(this.gone.reason));
    if (this.gone.aborted) throw this.gone.reason;
    await this.#exitAcknowledged.promise;
  }

  /** Nothing more will come: everybody who waits for this front door learns `reason`. */
  lose(reason: HrunError): void {
    if (this.gone.aborted) return;
    this.#gone.abort(reason);
    for (const flow of [this.stdin, this.stdout, this.stderr, this.hands]) flow.fail(reason);
  }

  /** @throws HrunError WIRE_PROTOCOL for a frame that has no place here */
  receive(frame: FrontFrame): void {
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
        this.#output(frame.stream).acknowledge(frame.offset);
        break;
      case 'outputGone':
        this.#output(frame.stream).close();
        break;
      case 'handDone':
        this.hands.done(frame.id, frame);
        break;
      case 'exitAck':
        this.#exitAcknowledged.resolve();
        break;
      default:
        throw protocolError(`${frame.type.toUpperCase()} a second time`);
    }
  }

  #output(stream: StreamName): OutputFlow {
    return stream === 'stdout' ? this.stdout : this.stderr;
  }

  #resize({ rows, columns }: TerminalSize): void {
    if (rows === 0 && columns === 0) return;
    this.#terminalSize = { rows, columns };
    for (const listener of [...this.#resizeListeners]) listener({ rows, columns });
  }

  #signal(signal: number): void {
    if (signal < 1 || signal > 64) throw protocolError(`signal number ${signal}`);
    if (this.#signalListeners.size === 0) {
      if (this.#keptSignals.length < maxKeptSignals) this.#keptSignals.push(signal);
      return;
    }
    for (const listener of [...this.#signalListeners]) listener(signal);
  }
}

/** What a command learns when its front door is lost. */
export function frontDoorGone(): HrunError {
  return new HrunError('CANCELLED', 'the command was given up: its front door is gone');
}
