import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type AgentConnection, connectAgent } from '../agent/connection.ts';
import type { Dial } from '../agent/dial.ts';
import { serialDial } from '../agent/serialDial.ts';
import { vsockDial } from '../agent/vsockDial.ts';
import { abortable } from '../base/abort.ts';
import { HrunError, isHrunError } from '../base/errors.ts';
import type { PhaseClock } from '../base/phases.ts';
import type { VmmDeps } from '../vmm/deps.ts';
import type { MicroVm, VmRecord, VmRequest } from '../vmm/microVm.ts';
import { adoptMicroVm } from '../vmm/qemu/adopt.ts';
import { bootMicroVm } from '../vmm/qemu/boot.ts';
import { whileRunning } from '../vmm/whileRunning.ts';

/** How far the guest's clock may be off once it was set. */
const clockToleranceNs = 1_000_000_000n;
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
 * Boots a microVM, waits for its agent and makes the guest distinct from every other (entropy, clock, names).
 * @throws HrunError as bootMicroVm and GuestVm.agent, VM_BOOT_FAILED with the console's last lines, AGENT_PROTOCOL when
 *   the guest did not take the clock
 */
export async function openGuestVm(
  request: VmRequest,
  hostname: string,
  deps: VmmDeps,
  limits: GuestLimits,
  phases: PhaseClock,
  signal: AbortSignal,
): Promise<GuestVm> {
  await using undo = new AsyncDisposableStack();
  const guest = undo.use(new GuestVm(await bootMicroVm(request, deps, signal), limits));
  phases.end('spawn');
  const { client } = await guest.agent(signal, 'booting');
  phases.end('boot');
  const sentNs = nowNs();
  const { realtimeNs } = await client.personalize(
    {
      entropy: randomBytes(entropyBytes),
      realtimeNs: sentNs,
      hostname,
      machineId: randomBytes(16).toString('hex'),
    },
    signal,
  );
  if (realtimeNs < sentNs - clockToleranceNs || realtimeNs > nowNs() + clockToleranceNs) {
    throw new HrunError('AGENT_PROTOCOL', `microVM ${request.id} did not take the clock of the host`);
  }
  phases.end('agent');
  undo.move();
  return guest;
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

function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}
