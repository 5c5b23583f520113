import { once } from 'node:events';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { withCancel } from '../base/abort.ts';
import { HrunError } from '../base/errors.ts';
import type { AttachIo } from './attachIo.ts';
import type { AttachRecord } from './attachRecord.ts';
import type { ContainerRecord } from './containerRecord.ts';
import type { Ended } from './engine.ts';
import { followOutput } from './followOutput.ts';
import type { GuestProcess } from './guestProcess.ts';
import { initProcessId } from './launchContainer.ts';
import type { LiveContainer } from './liveContainers.ts';
import type { OutputPosition } from './logRecord.ts';
import type { OutputLog } from './outputLog.ts';

/** How long a workload whose stdout nobody reads has to notice. */
const brokenPipeGraceMs = 2_000;

export interface AttachPlan {
  /** First byte of each stream that is shown. */
  readonly from: OutputPosition;
  /** The command's descriptors are the workload's own: one that is closed breaks the workload's pipe. */
  readonly ownsOutput: boolean;
  readonly stdin: boolean;
  readonly signalProxy: boolean;
  readonly timing: boolean;
}

/** What the next daemon needs to go on with this attachment. */
export function attachRecord(
  { id, config }: ContainerRecord,
  plan: AttachPlan,
  io: AttachIo,
  stdinBase: bigint,
  detachKeys: readonly number[] = [],
): AttachRecord {
  return {
    containerId: id,
    processId: initProcessId,
    stdoutBase: io.stdout.offset,
    stderrBase: io.stderr.offset,
    stdoutFrom: plan.from.stdout,
    stderrFrom: plan.from.stderr,
    stdinBase,
    ownsOutput: plan.ownsOutput,
    terminal: config.terminal,
    openStdin: plan.stdin && config.openStdin,
    signalProxy: plan.signalProxy,
    detachKeys: [...detachKeys],
    timing: plan.timing,
  };
}

/**
 * Joins a command to a container until it ends or the user detaches. The container is not removed before this command
 * has its exit code safely.
 * @param stdinBase offset of the workload's input at the first byte of the command's stdin
 * @throws the reason of `signal`: the front door is gone; the container goes on
 */
export async function attachSession(
  live: LiveContainer,
  { config }: ContainerRecord,
  plan: AttachPlan,
  io: AttachIo,
  stdinBase: bigint,
  signal: AbortSignal,
): Promise<Ended> {
  const released = Promise.withResolvers<void>();
  live.holders.add(released.promise);
  live.expected?.();
  try {
    const ended = await withCancel(AbortSignal.any([signal, io.detached]), async (until, cancel) => {
      try {
        return await relay(live, config.terminal, config.openStdin, plan, io, stdinBase, until);
      } finally {
        // Who waits for what comes no more must not wait for ever: Node.js would keep all that it holds.
        cancel(new HrunError('CANCELLED', 'the command has ended'));
      }
    });
    // What the log would be needed for must be over before the container may go.
    await whenWritten(io, signal);
    await io.settle(ended);
    live.holders.delete(released.promise);
    released.resolve();
    await live.finished;
    return {
      kind: 'exited',
      containerId: live.id,
      exitCode: ended,
      ...(plan.timing && { timing: live.timing() }),
    };
  } catch (error) {
    if (!io.detached.aborted) throw error;
    return { kind: 'detached', containerId: live.id };
  } finally {
    live.holders.delete(released.promise);
    released.resolve();
  }
}

async function relay(
  live: LiveContainer,
  terminal: boolean,
  openStdin: boolean,
  plan: AttachPlan,
  io: AttachIo,
  stdinBase: bigint,
  until: AbortSignal,
): Promise<number> {
  using stack = new DisposableStack();
  if (terminal) {
    stack.use(io.onResize((size) => live.init.resize(size)));
    stack.use(io.rawTerminal());
  }
  if (plan.ownsOutput) {
    passOnClosedOutput(live.init, io, until);
    if (!terminal) void killOnceUnread(live, io, until).catch(() => {});
  }
  if (plan.signalProxy)
    stack.use(io.onSignal((signalNumber) => void forwardSignal(live, signalNumber, until)));
  if (plan.stdin && openStdin && io.stdin !== undefined) {
    live.inputOwner?.abort(new HrunError('CANCELLED', 'another command passes input on now'));
    const owner = new AbortController();
    live.inputOwner = owner;
    stack.defer(() => owner.abort(new HrunError('CANCELLED', 'the command has ended')));
    const inputUntil = AbortSignal.any([until, owner.signal]);
    // Input ends for many reasons, none of which ends the command.
    void live.init.relayInput(io.stdin, stdinBase, inputUntil).catch(() => {});
  }
  const options = { from: plan.from, follow: true, holdWriter: true };
  for await (const { stream, data } of followOutput(live.log, options, until)) {
    await io[stream].write(data, until);
  }
  return (await live.ended).exitCode;
}

/** What a shell's `| head -1` does to a workload without a VM happens to one within. */
export function passOnClosedOutput(
  process: GuestProcess,
  io: Pick<AttachIo, 'stdout' | 'stderr'>,
  until: AbortSignal,
): void {
  for (const stream of ['stdout', 'stderr'] as const) {
    const { closed } = io[stream];
    const end = () => process.endOutput(stream);
    if (closed.aborted) end();
    else closed.addEventListener('abort', end, { once: true, signal: until });
  }
}

/**
 * The init of a pid namespace is immune to SIGPIPE (pid_namespaces(7)): one that does not look at EPIPE either, such as
 * busybox yes, would write into nothing for ever.
 */
async function killOnceUnread(live: LiveContainer, io: AttachIo, until: AbortSignal): Promise<void> {
  if (!io.stdout.closed.aborted) await once(io.stdout.closed, 'abort', { signal: until });
  await sleep(brokenPipeGraceMs, undefined, { signal: until });
  await forwardSignal(live, constants.signals.SIGKILL, until);
}

async function forwardSignal(live: LiveContainer, signalNumber: number, until: AbortSignal): Promise<void> {
  try {
    const { client } = await live.guest.agent(until);
    await client.signal(
      { containerId: live.id, processId: initProcessId, signal: signalNumber, all: false },
      until,
    );
  } catch {
    // The process may just have ended; its exit is told anyway.
  }
}

/**
 * Gives a command the rest of the output of a container that has ended, and its exit code.
 * @throws the reason of `signal`
 */
export async function replayEnded(
  log: OutputLog,
  { id, state }: ContainerRecord,
  from: OutputPosition,
  io: AttachIo,
  signal: AbortSignal,
): Promise<Ended> {
  for await (const { stream, data } of followOutput(
    log,
    { from, follow: false, holdWriter: false },
    signal,
  )) {
    await io[stream].write(data, signal);
  }
  await whenWritten(io, signal);
  await io.settle(state.exitCode);
  return { kind: 'exited', containerId: id, exitCode: state.exitCode };
}

/** Waits until the caller's descriptors have everything. @throws the reason of `signal` */
export async function whenWritten(
  io: Pick<AttachIo, 'stdout' | 'stderr'>,
  signal: AbortSignal,
): Promise<void> {
  for (const channel of [io.stdout, io.stderr]) {
    while (channel.written < channel.offset) await channel.writtenBeyond(channel.written, signal);
  }
}
