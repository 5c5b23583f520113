import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { z } from 'zod';
import { abortable } from '../../base/abort.ts';
import { HrunError } from '../../base/errors.ts';
import { descriptorOf } from '../../sys/descriptors.ts';
import { sendDescriptor } from '../../sys/sendDescriptor.ts';

/** More than the 87 KiB of a full console, the longest answer asked for. */
const maxLineBytes = 1024 * 1024;

const QmpAnswer = z.union([
  z.object({ id: z.number(), return: z.unknown() }),
  z.object({ id: z.number(), error: z.object({ class: z.string(), desc: z.string() }) }),
]);
type QmpAnswer = z.infer<typeof QmpAnswer>;

const QmpMessage = z.union([
  z.object({ QMP: z.unknown() }),
  z.object({
    event: z.string(),
    data: z
      .object({ device: z.string(), guest: z.boolean(), reason: z.string(), status: z.string() })
      .partial()
      .default({}),
  }),
  QmpAnswer,
]);

export interface QmpEvent {
  readonly event: string;
  /** The fields that anybody here looks at. */
  readonly data: {
    readonly device?: string | undefined;
    readonly guest?: boolean | undefined;
    readonly reason?: string | undefined;
    readonly status?: string | undefined;
  };
}

interface PendingCommand {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * QEMU's control channel (docs/interop/qmp-spec.txt of QEMU) over a connected socket. What arrives is not trusted
 * more than the guest is: lines are bounded and checked, and anything odd ends the connection.
 */
export class QmpConnection implements Disposable {
  /** Settles once nothing more can come: with VM_DIED when QEMU closed, QEMU_FAILED when it talked nonsense. */
  readonly closed: Promise<HrunError>;
  readonly #socket: Duplex;
  readonly #subject: string;
  readonly #pending = new Map<number, PendingCommand>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #greeted = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<HrunError>();
  #received: Buffer[] = [];
  #receivedBytes = 0;
  #lastId = 0;
  #failure: HrunError | undefined;

  /** @param subject names the VM in errors */
  constructor(socket: Duplex, subject: string) {
    this.#socket = socket;
    this.#subject = subject;
    this.closed = this.#closed.promise;
    this.#greeted.promise.catch(() => {});
    socket.on('data', (bytes: Buffer) => this.#receive(bytes));
    socket.on('error', (cause) => this.#end('VM_DIED', `the control socket of ${subject} failed`, cause));
    socket.on('close', () => this.#end('VM_DIED', `QEMU of ${subject} closed its control socket`));
    socket.on('end', () => this.#end('VM_DIED', `QEMU of ${subject} closed its control socket`));
  }

  /** Waits for the greeting and leaves negotiation mode; every other command comes after it. */
  async negotiate(signal: AbortSignal): Promise<void> {
    await abortable(this.#greeted.promise, signal);
    await this.execute('qmp_capabilities', {}, signal);
  }

  /**
   * Runs one command. An abort forgets it; QEMU may still carry it out.
   * @throws HrunError QEMU_FAILED when QEMU refuses, VM_DIED when the connection is or gets closed
   */
  execute(command: string, parameters: object, signal: AbortSignal): Promise<unknown> {
    return this.#run(command, parameters, signal, (line) => void this.#socket.write(line));
  }

  /**
   * As `execute`, with a copy of `descriptor` handed to QEMU (`getfd`, `add-fd`).
   * @throws also HrunError QEMU_FAILED when the descriptor could not be sent
   */
  async executeWithDescriptor(
    command: string,
    parameters: object,
    descriptor: number,
    signal: AbortSignal,
  ): Promise<unknown> {
    signal.throwIfAborted();
    await abortable(this.#written(), signal);
    return await this.#run(command, parameters, signal, (line) => {
      const fd = this.#socket instanceof Socket ? descriptorOf(this.#socket) : undefined;
      if (fd === undefined) throw this.#failure ?? new Error('the socket is closed');
      sendDescriptor(fd, Buffer.from(line), descriptor);
    });
  }

  async #run(
    command: string,
    parameters: object,
    signal: AbortSignal,
    send: (line: string) => void,
  ): Promise<unknown> {
    signal.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
    this.#lastId += 1;
    const id = this.#lastId;
    const answer = Promise.withResolvers<unknown>();
    this.#pending.set(id, { command, resolve: answer.resolve, reject: answer.reject });
    try {
      send(`${JSON.stringify({ execute: command, arguments: parameters, id })}\n`);
      return await abortable(answer.promise, signal);
    } catch (cause) {
      if (cause instanceof HrunError || signal.aborted) throw cause;
      throw new HrunError('QEMU_FAILED', `${this.#subject}: ${command} could not be sent`, { cause });
    } finally {
      this.#pending.delete(id);
    }
  }

  /** Settles once nothing of ours waits in the socket: what bypasses it must not overtake. */
  async #written(): Promise<void> {
    while (this.#failure === undefined && this.#socket.writableLength > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      // a blank between two commands
      this.#socket.write('\n', () => resolve());
      await promise;
    }
  }

  /** Calls `listener` for each event until the returned function is called. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** The next event that `matches`; rejects like `execute`. Call before causing the event. */
  async nextEvent(matches: (event: QmpEvent) => boolean, signal: AbortSignal): Promise<QmpEvent> {
    const found = Promise.withResolvers<QmpEvent>();
    const stop = this.onEvent((event) => {
      if (matches(event)) found.resolve(event);
    });
    const closed = this.closed.then((reason) => Promise.reject(reason));
    try {
      return await abortable(Promise.race([found.promise, closed]), signal);
    } finally {
      stop();
    }
  }

  [Symbol.dispose](): void {
    this.#end('VM_DIED', `the control socket of ${this.#subject} was closed`);
  }

  #receive(bytes: Buffer): void {
    let start = 0;
    for (let newline = bytes.indexOf(10); newline >= 0; newline = bytes.indexOf(10, start)) {
      const line = Buffer.concat([...this.#received, bytes.subarray(start, newline)]);
      this.#received = [];
      this.#receivedBytes = 0;
      start = newline + 1;
      this.#handleLine(line);
    }
    if (start === bytes.length) return;
    this.#received.push(bytes.subarray(start));
    this.#receivedBytes += bytes.length - start;
    if (this.#receivedBytes > maxLineBytes)
      this.#end('QEMU_FAILED', `QEMU of ${this.#subject} sent a line without end`);
  }

  #handleLine(line: Buffer): void {
    if (this.#failure !== undefined) return;
    const message = parseLine(line);
    if (message === undefined) {
      this.#end('QEMU_FAILED', `QEMU of ${this.#subject} sent what is no QMP message`);
    } else if ('QMP' in message) {
      this.#greeted.resolve();
    } else if ('event' in message) {
      for (const listener of this.#listeners) listener(message);
    } else {
      this.#settle(message);
    }
  }

  #settle(answer: QmpAnswer): void {
    const pending = this.#pending.get(answer.id);
    if (pending === undefined) return; // its caller gave up
    if ('return' in answer) {
      pending.resolve(answer.return);
    } else {
      const message = `${this.#subject}: QEMU refused ${pending.command}: ${answer.error.desc}`;
      pending.reject(new HrunError('QEMU_FAILED', message));
    }
  }

  #end(code: 'VM_DIED' | 'QEMU_FAILED', message: string, cause?: unknown): void {
    if (this.#failure !== undefined) return;
    const failure = new HrunError(code, message, { cause });
    this.#failure = failure;
    this.#received = [];
    this.#socket.destroy();
    this.#greeted.reject(failure);
    for (const pending of this.#pending.values()) pending.reject(failure);
    this.#closed.resolve(failure);
  }
}

function parseLine(line: Buffer): z.infer<typeof QmpMessage> | undefined {
  try {
    return QmpMessage.safeParse(JSON.parse(line.toString('utf8'))).data;
  } catch {
    return undefined;
  }
}
