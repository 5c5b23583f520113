import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type AgentConnection, connectAgent } from '../agent/connection.ts';
import type { Dial } from '../agent/dial.ts';
import { serialDial } from '../agent/serialDial.ts';
import { vsockDial } from '../agent/vsockDial.ts';
import { abortable } from '../base/abort.ts';
import { HrunError, isHrunError } from '../base/errors.ts';
import type { VmmDeps } from '../vmm/deps.ts';
import type { MicroVm, VmRecord } from '../vmm/microVm.ts';
import { adoptMicroVm } from '../vmm/qemu/adopt.ts';
import { whileRunning } from '../vmm/whileRunning.ts';

/** How far the guest's clock may be off once it was set: more than that, and it did not take it. */
const clockToleranceNs = 1_000_000_000n;
/** What is aimed at; a busy machine may need a second attempt. */
const clockPrecisionNs = 25_000_000n;
const clockAttempts = 4;
const entropyBytes = 256;

export interface GuestLimits {
  /** From QEMU's start to an agent that answers. */
  readonly bootTimeoutMs: number;
  /** For one call of the agent that is expected to be short. */
  readonly agentTimeoutMs: number;
}

/** A running microVM and the connection to its agent, which is made again when it was lost. */
export class GuestVm implements AsyncDisposable {
  readonly vm: MicroVm;
  readonly limits: GuestLimits;
  #connection: AgentConnection | undefined;
  #connecting: Promise<AgentConnection> | undefined;

  constructor(vm: MicroVm, limits: GuestLimits) {
    this.vm = vm;
    this.limits = limits;
  }

  /**
   * The connection to the agent.
   * @throws HrunError VM_DIED when the guest ends meanwhile, TIMEOUT when its agent does not answer in time
   */
  async agent(signal: AbortSignal, phase = 'running'): Promise<AgentConnection> {
    if (this.#connection !== undefined) return this.#connection;
    this.#connecting ??= this.#connect(phase).finally(() => {
      this.#connecting = undefined;
    });
    return await abortable(this.#connecting, signal);
  }

  /** Ends the connection; the agent goes on and can be connected to again. */
  async disconnect(): Promise<void> {
    const connection = this.#connection;
    this.#connection = undefined;
    await connection?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection?.[Symbol.asyncDispose]();
    await this.vm[Symbol.asyncDispose]();
  }

  async #connect(phase: string): Promise<AgentConnection> {
    const { vm } = this;
    const open = (signal: AbortSignal) => vm.dial(signal);
    const dial = vm.record.transport === 'vsock' ? vsockDial(open) : serialDial(open);
    // Said so, it is known that the guest may just have ended, which is the better reason.
    const reached: Dial = (signal) =>
      dial(signal).catch((cause: unknown) => {
        signal.throwIfAborted();
        if (isHrunError(cause)) throw cause;
        throw new HrunError('AGENT_UNREACHABLE', `microVM ${vm.record.id} cannot be reached`, { cause });
      });
    const timeoutMs = phase === 'booting' ? this.limits.bootTimeoutMs : this.limits.agentTimeoutMs;
    const deadline = AbortSignal.timeout(timeoutMs);
    const connection = await whileRunning(vm, phase, deadline, (signal) =>
      connectAgent(reached, { socketPath: join(vm.record.runDir, 'grpc.sock') }, signal),
    ).catch((cause: unknown) => {
      if (!deadline.aborted) throw cause;
      throw new HrunError(
        'TIMEOUT',
        `the agent of microVM ${vm.record.id} did not answer within ${timeoutMs} ms while ${phase}`,
        {
          cause,
          hint: 'raise bootTimeoutMs or agentTimeoutMs in the configuration if this host is slow',
        },
      );
    });
    this.#connection = connection;
    void connection.closed.then(() => {
      if (this.#connection === connection) this.#connection = undefined;
    });
    return connection;
  }
}

/**
 * Makes a guest distinct from every other: entropy, clock, names. Nothing of a container may happen in it before.
 * @throws HrunError AGENT_PROTOCOL when the guest did not take the clock, or as GuestVm.agent
 */
export async function personalizeGuest(guest: GuestVm, hostname: string, signal: AbortSignal): Promise<void> {
  const { client } = await guest.agent(signal);
  const machineId = randomBytes(16).toString('hex');
  for (let attempt = 1; ; attempt += 1) {
    const sentNs = BigInt(Date.now()) * 1_000_000n;
    const sentAt = process.hrtime.bigint();
    const entropy = randomBytes(entropyBytes);
    const { realtimeNs } = await client.personalize(
      { entropy, realtimeNs: sentNs, hostname, machineId },
      signal,
    );
    // by a clock that nobody sets: the host's may be stepped in between
    const errorNs = sentNs + (process.hrtime.bigint() - sentAt) - realtimeNs;
    if (realtimeNs < sentNs || errorNs < -clockToleranceNs) break;
    // by as much as the request and its answer took on the way, the clock may be late
    if (errorNs <= clockPrecisionNs) return;
    if (attempt < clockAttempts) continue;
    if (errorNs <= clockToleranceNs) return;
    break;
  }
  throw new HrunError('AGENT_PROTOCOL', `microVM ${guest.vm.record.id} did not take the clock of the host`);
}

/**
 * Takes over the microVM of an earlier daemon.
 * @throws HrunError VM_DIED when it is gone
 */
export async function adoptGuestVm(
  record: VmRecord,
  deps: VmmDeps,
  limits: GuestLimits,
  signal: AbortSignal,
): Promise<GuestVm> {
  return new GuestVm(await adoptMicroVm(record, deps, signal), limits);
}

/** Whether a call may succeed over a new connection: the agent was not reached, its VM may still run. */
export function isConnectionLoss(error: unknown): boolean {
  return isHrunError(error, 'AGENT_UNREACHABLE');
}
