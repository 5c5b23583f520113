import { randomBytes } from 'node:crypto';
import { withCancel } from '../base/abort.ts';
import { crashPoint } from '../base/crashPoint.ts';
import { HrunError } from '../base/errors.ts';
import type { AttachIo, OutputChannel } from './attachIo.ts';
import { passOnClosedOutput, whenWritten } from './attachSession.ts';
import { containerEvent } from './containerEvents.ts';
import type { ContainerRecord } from './containerRecord.ts';
import type { Ended } from './engine.ts';
import { guestPrivileges } from './guestContainer.ts';
import { GuestProcess } from './guestProcess.ts';
import type { LiveContainer } from './liveContainers.ts';
import type { OutputPosition, OutputStream } from './logRecord.ts';
import type { ExecRequest } from './runRequest.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';

const beginning: OutputPosition = { stdout: 0n, stderr: 0n };

/**
 * Runs one more process in a container, with the command's terminal and stdio, or detached.
 * @throws HrunError COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE, INVALID_ARGUMENT (user, directory), or the reason of
 *   `signal`: the front door is gone; the process goes on
 */
export async function execProcess(
  live: LiveContainer,
  record: ContainerRecord,
  request: ExecRequest,
  { events }: Pick<RuntimeDeps, 'events'>,
  io: AttachIo,
  signal: AbortSignal,
): Promise<Ended> {
  const { config } = record;
  const processId = `exec-${randomBytes(8).toString('hex')}`;
  const tell = (action: string, more: Readonly<Record<string, string>> = {}) =>
    events.record(containerEvent(record, action, { execID: processId, ...more }));
  const { client } = await live.guest.agent(signal);
  tell(`exec_create: ${request.command.join(' ')}`);
  if (!request.detach) {
    await io.makeResumable({
      containerId: record.id,
      processId,
      stdoutBase: io.stdout.offset,
      stderrBase: io.stderr.offset,
      stdoutFrom: 0n,
      stderrFrom: 0n,
      stdinBase: 0n,
      ownsOutput: true,
      terminal: request.terminal,
      openStdin: request.openStdin,
      signalProxy: false,
      detachKeys: [],
      timing: false,
    });
  }
  await client.exec(
    {
      containerId: record.id,
      processId,
      process: {
        args: [...request.command],
        env: execEnvironment(config.env, request),
        cwd: request.workingDir ?? config.workingDir,
        user: (request.user ?? config.user) || '0',
        terminal: request.terminal,
        ...(request.terminal && io.terminalSize && { terminalSize: io.terminalSize }),
        stdinOpen: request.openStdin && !request.detach,
        ...guestPrivileges(config, request.privileged),
      },
    },
    signal,
  );
  await crashPoint('exec.created');
  tell(`exec_start: ${request.command.join(' ')}`);
  const process = new GuestProcess(live.guest, record.id, processId);
  const told = (exitCode: number) => tell('exec_die', { exitCode: String(exitCode) });
  if (request.detach) {
    void discard(live, process, told);
    return { kind: 'detached', containerId: record.id };
  }
  const plan = { terminal: request.terminal, openStdin: request.openStdin, from: beginning, stdinBase: 0n };
  const ended = await attachToExec(live, process, plan, io, signal, told);
  if (ended.kind === 'detached') tell('exec_detach');
  return ended;
}

export interface ExecAttachment {
  readonly terminal: boolean;
  readonly openStdin: boolean;
  /** First byte of each stream that the command does not have. */
  readonly from: OutputPosition;
  readonly stdinBase: bigint;
}

/** Joins a command to a process until it exits or the user detaches; `onExit` is told either way once it has ended. */
export async function attachToExec(
  live: Pick<LiveContainer, 'guest' | 'id'>,
  process: GuestProcess,
  plan: ExecAttachment,
  io: AttachIo,
  signal: AbortSignal,
  onExit: (exitCode: number) => void = () => {},
): Promise<Ended> {
  const base: OutputPosition = {
    stdout: io.stdout.offset - plan.from.stdout,
    stderr: io.stderr.offset - plan.from.stderr,
  };
  try {
    const code = await withCancel(AbortSignal.any([signal, io.detached]), async (until, cancel) => {
      using stack = new DisposableStack();
      stack.defer(() => cancel(new HrunError('CANCELLED', 'the command has ended')));
      if (plan.terminal) {
        stack.use(io.onResize((size) => process.resize(size)));
        stack.use(io.rawTerminal());
      }
      if (plan.openStdin && io.stdin !== undefined) {
        void process.relayInput(io.stdin, plan.stdinBase, until).catch(() => {});
      }
      passOnClosedOutput(process, io, until);
      const written = { ...plan.from };
      for (const stream of ['stdout', 'stderr'] as const) {
        void acknowledgeWritten(process, stream, io[stream], base[stream], written, until).catch(() => {});
      }
      const sink = (stream: OutputStream, _offset: bigint, data: Uint8Array) => io[stream].write(data, until);
      const exit = await process.follow(plan.from, sink, until);
      await whenWritten(io, until);
      return exit.code;
    });
    await crashPoint('exec.exited');
    onExit(code);
    await io.settle(code);
    await release(live, process);
    return { kind: 'exited', containerId: live.id, exitCode: code };
  } catch (error) {
    if (!io.detached.aborted) throw error;
    void discard(live, process, onExit);
    return { kind: 'detached', containerId: live.id };
  }
}

/** The agent may forget what the caller's descriptor has. */
async function acknowledgeWritten(
  process: GuestProcess,
  stream: OutputStream,
  channel: OutputChannel,
  base: bigint,
  written: OutputPosition,
  until: AbortSignal,
): Promise<void> {
  for (let at = channel.written; ; ) {
    at = await channel.writtenBeyond(at, until);
    written[stream] = at - base;
    process.acknowledge(written);
  }
}

/** Keeps a process that nobody listens to from blocking on its output. */
async function discard(
  live: Pick<LiveContainer, 'guest' | 'id'>,
  process: GuestProcess,
  onExit: (exitCode: number) => void,
): Promise<void> {
  const signal = new AbortController().signal;
  const taken = { ...beginning };
  const sink = async (stream: OutputStream, offset: bigint, data: Uint8Array) => {
    taken[stream] = offset + BigInt(data.length);
    process.acknowledge(taken);
  };
  // It ends with its container at the latest.
  await process.follow(beginning, sink, signal).then(
    ({ code }) => {
      onExit(code);
      return release(live, process);
    },
    () => {},
  );
}

async function release(
  live: Pick<LiveContainer, 'guest'>,
  { containerId, processId }: GuestProcess,
): Promise<void> {
  const signal = AbortSignal.timeout(live.guest.limits.agentTimeoutMs);
  try {
    const { client } = await live.guest.agent(signal);
    await client.releaseProcess({ containerId, processId }, signal);
  } catch {
    // Its container is ending, and everything in the guest with it.
  }
}

function execEnvironment(container: readonly string[], request: ExecRequest): string[] {
  const merged = new Map(container.map((variable) => [variable.slice(0, variable.indexOf('=')), variable]));
  if (request.terminal && !merged.has('TERM')) merged.set('TERM', 'TERM=xterm');
  for (const { name, value } of request.environment) {
    if (value === undefined) merged.delete(name);
    else merged.set(name, `${name}=${value}`);
  }
  return [...merged.values()];
}
