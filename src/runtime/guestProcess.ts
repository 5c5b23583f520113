import { setTimeout as sleep } from 'node:timers/promises';
import type { AgentClient, Attachment } from '../agent/client.ts';
import type { ProcessExit } from '../agent/types.ts';
import { abortable } from '../base/abort.ts';
import { HrunError } from '../base/errors.ts';
import { isConnectionLoss } from '../pool/guestVm.ts';
import type { InputChannel, TerminalSize } from './attachIo.ts';
import type { OutputPosition, OutputStream } from './logRecord.ts';

/** Of one InputChunk, and how far input may run ahead of what the agent has accepted (agent.proto). */
const inputChunkBytes = 32 * 1024;
const inputWindowBytes = 64n * 1024n;
/** The agent keeps 256 KiB unacknowledged; telling it at every quarter costs little and never stalls it. */
const acknowledgeEveryBytes = 64n * 1024n;
const longestPauseMs = 500;
/** In a row, without a byte of output: a channel that works is lost with its microVM only. About 20 s. */
const maxLosses = 50;
/** More than any process is given; offsets beyond do not fit into the wire's arithmetic. */
const maxInputBytes = 2n ** 62n;

/**
 * Takes the output of a process, in order, without gaps. While it waits the process is held back. Bytes are kept by the
 * agent until `acknowledge` says that they are safe.
 */
export type OutputSink = (stream: OutputStream, offset: bigint, data: Uint8Array) => Promise<void>;

/** Where the agent is found, again and again: connections get lost. */
export interface AgentSource {
  agent(signal: AbortSignal): Promise<{ readonly client: Pick<AgentClient, 'attach'> }>;
}

/** The host's end of one process in a guest. It outlives lost connections to the agent. */
export class GuestProcess {
  readonly containerId: string;
  readonly processId: string;
  readonly #guest: AgentSource;
  readonly #maxPauseMs: number;
  #attachment: Attachment | undefined;
  #early: Promise<Attachment> | undefined;
  #lost = new AbortController();
  #inputReady = Promise.withResolvers<Attachment>();
  #safe: OutputPosition = { stdout: 0n, stderr: 0n };
  #told: OutputPosition = { stdout: 0n, stderr: 0n };
  #input = { accepted: 0n, closed: false };
  /** Undefined until it is known what the process had already. */
  #inputSent: bigint | undefined;
  #size: TerminalSize | undefined;
  readonly #unwanted = new Set<OutputStream>();
  #inputListeners = new Set<() => void>();

  /** @param maxPauseMs between attempts to reach the agent again */
  constructor(guest: AgentSource, containerId: string, processId: string, maxPauseMs = longestPauseMs) {
    this.#guest = guest;
    this.#maxPauseMs = maxPauseMs;
    this.containerId = containerId;
    this.processId = processId;
  }

  /** Offset below which the agent has this process's input. */
  get inputAccepted(): bigint {
    return this.#input.accepted;
  }

  /**
   * Attaches before the process is started, for `follow` to go on with: one answer less to wait for. The process must
   * have no output yet.
   */
  attachEarly(client: Pick<AgentClient, 'attach'>, signal: AbortSignal): void {
    const { containerId, processId } = this;
    this.#inputSent = 0n;
    this.#early = client.attach({ containerId, processId, stdoutOffset: 0n, stderrOffset: 0n }, signal);
    this.#early.catch(() => {}); // told by `follow`
  }

  /**
   * Hands the output from `from` on to `sink` until the process has exited and all of it was taken.
   * @throws HrunError VM_DIED when the guest ended without telling an exit, AGENT_PROTOCOL for nonsense, or what `sink`
   *   or `signal` threw
   */
  async follow(from: OutputPosition, sink: OutputSink, signal: AbortSignal): Promise<ProcessExit> {
    this.#safe = { ...from };
    const next: OutputPosition = { ...from };
    let losses = 0;
    for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, this.#maxPauseMs)) {
      const had = next.stdout + next.stderr;
      try {
        const { client } = await this.#guest.agent(signal);
        const exit = await this.#attachOnce(client, next, sink, signal);
        if (exit !== undefined) return exit;
      } catch (error) {
        signal.throwIfAborted();
        if (!isConnectionLoss(error)) throw error;
      }
      losses = next.stdout + next.stderr > had ? 1 : losses + 1;
      if (losses === maxLosses) {
        throw new HrunError(
          'AGENT_PROTOCOL',
          `the agent lost its connection ${losses} times, with no output between`,
        );
      }
      await sleep(pauseMs, undefined, { signal });
    }
  }

  /** Says that all below `position` is safe, so that the agent may forget it. */
  acknowledge(position: OutputPosition): void {
    this.#safe = { ...position };
    const due = (stream: OutputStream) => position[stream] - this.#told[stream] >= acknowledgeEveryBytes;
    if (!due('stdout') && !due('stderr')) return;
    this.#told = { ...position };
    this.#send({ case: 'ack', value: { stdoutOffset: position.stdout, stderrOffset: position.stderr } });
  }

  /** Breaks the process's pipe: it gets EPIPE when it goes on writing. Told again after a lost connection. */
  endOutput(stream: OutputStream): void {
    this.#unwanted.add(stream);
    this.#sendOutputEnd();
  }

  /** Told again after a lost connection. */
  resize(size: TerminalSize): void {
    this.#size = size;
    this.#sendSize();
  }

  /**
   * Passes `input` and its end on, again when a connection was lost with it, until the process reads no more or `signal`
   * fires. Offset 0 of the channel is byte `base` of the process's input.
   * @throws the reason of `signal`
   */
  async relayInput(input: InputChannel, base: bigint, signal: AbortSignal): Promise<void> {
    const onInput = () => {
      if (this.#input.accepted > base) input.accept(this.#input.accepted - base);
      if (this.#input.closed) input.close();
    };
    this.#inputListeners.add(onInput);
    using _listener = { [Symbol.dispose]: () => void this.#inputListeners.delete(onInput) };
    for (;;) {
      const attachment = await abortable(this.#inputReady.promise, signal);
      const connected = AbortSignal.any([signal, this.#lost.signal]);
      try {
        await this.#sendInput(attachment, input, base, connected);
        if (this.#input.closed) return;
        // What was sent may not have arrived: only the end of the process makes it superfluous to send it again.
        await abortable(new Promise<never>(() => {}), connected);
      } catch (error) {
        signal.throwIfAborted();
        if (!connected.aborted && !isConnectionLoss(error)) throw error;
      }
    }
  }

  async #attachOnce(
    client: Pick<AgentClient, 'attach'>,
    next: OutputPosition,
    sink: OutputSink,
    signal: AbortSignal,
  ): Promise<ProcessExit | undefined> {
    const { containerId, processId } = this;
    const early = this.#early;
    this.#early = undefined;
    using attachment = await (early ??
      client.attach(
        // not `next`: what was taken but is not yet safe would be forgotten
        { containerId, processId, stdoutOffset: this.#safe.stdout, stderrOffset: this.#safe.stderr },
        signal,
      ));
    this.#told = { ...this.#safe };
    this.#lost = new AbortController();
    this.#attachment = attachment;
    this.#sendOutputEnd();
    this.#sendSize();
    try {
      for await (const output of attachment.outputs) {
        switch (output.case) {
          case 'stdout':
          case 'stderr':
            await this.#take(output.case, output.value.offset, output.value.data, next, sink);
            break;
          case 'stdinAccepted':
            this.#acceptInput(output.value.offset, output.value.closed);
            // The agent begins with it: only now is it known from where on it wants input.
            this.#inputReady.resolve(attachment);
            break;
          case 'exit':
            return this.#checkedExit(output.value, next);
        }
      }
      return undefined;
    } finally {
      this.#attachment = undefined;
      this.#inputReady = Promise.withResolvers<Attachment>();
      this.#lost.abort(new HrunError('AGENT_UNREACHABLE', 'the attachment to the process was lost'));
    }
  }

  async #take(
    stream: OutputStream,
    offset: bigint,
    data: Uint8Array,
    next: OutputPosition,
    sink: OutputSink,
  ): Promise<void> {
    if (offset > next[stream]) {
      throw new HrunError(
        'AGENT_PROTOCOL',
        `the agent's ${stream} jumps from byte ${next[stream]} to ${offset}`,
      );
    }
    const known = next[stream] - offset;
    if (known >= BigInt(data.length)) return;
    const fresh = data.subarray(Number(known));
    await sink(stream, next[stream], fresh);
    next[stream] += BigInt(fresh.length);
  }

  /** @throws HrunError AGENT_PROTOCOL for input that was never sent; how far an earlier daemon came, only the agent knows */
  #acceptInput(offset: bigint, closed: boolean): void {
    if (offset > (this.#inputSent ?? maxInputBytes)) {
      throw new HrunError(
        'AGENT_PROTOCOL',
        `the agent accepted input up to byte ${offset}, which was not sent`,
      );
    }
    this.#inputSent ??= offset;
    if (offset < this.#input.accepted) return;
    this.#input = { accepted: offset, closed: closed || this.#input.closed };
    for (const listener of [...this.#inputListeners]) listener();
  }

  #checkedExit(exit: ProcessExit, next: OutputPosition): ProcessExit {
    if (exit.code > 255 || exit.signal > 64) {
      throw new HrunError(
        'AGENT_PROTOCOL',
        `the agent told an exit code of ${exit.code}, signal ${exit.signal}`,
      );
    }
    if (exit.stdoutLength !== next.stdout || exit.stderrLength !== next.stderr) {
      throw new HrunError('AGENT_PROTOCOL', 'the agent told an exit before all output was here');
    }
    return exit;
  }

  async #sendInput(
    attachment: Attachment,
    input: InputChannel,
    base: bigint,
    signal: AbortSignal,
  ): Promise<void> {
    const from = this.#input.accepted > base ? this.#input.accepted - base : 0n;
    let end = base + from;
    for await (const piece of input.read(from, signal)) {
      for (let at = 0; at < piece.bytes.length; at += inputChunkBytes) {
        const data = piece.bytes.subarray(at, at + inputChunkBytes);
        const offset = base + piece.offset + BigInt(at);
        end = offset + BigInt(data.length);
        await this.#whenInputFits(end, signal);
        if (this.#input.closed) return;
        if (end > (this.#inputSent ?? 0n)) this.#inputSent = end;
        await attachment.send({ case: 'stdin', value: { offset, data } });
      }
    }
    await attachment.send({ case: 'stdinEnd', value: { offset: end } });
  }

  async #whenInputFits(end: bigint, signal: AbortSignal): Promise<void> {
    while (!this.#input.closed && end > this.#input.accepted + inputWindowBytes) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#inputListeners.add(resolve);
      await abortable(promise, signal).finally(() => this.#inputListeners.delete(resolve));
    }
  }

  #sendOutputEnd(): void {
    const [stdout, stderr] = [this.#unwanted.has('stdout'), this.#unwanted.has('stderr')];
    if (stdout || stderr) this.#send({ case: 'outputEnd', value: { stdout, stderr } });
  }

  #sendSize(): void {
    if (this.#size !== undefined) {
      const { rows, columns } = this.#size;
      this.#send({ case: 'resize', value: { rows, columns } });
    }
  }

  #send(input: Parameters<Attachment['send']>[0]): void {
    // lost with the attachment: the next one begins from what is safe, and is told the rest again
    this.#attachment?.send(input).catch(() => {});
  }
}
