import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { crashPoint } from '../../base/crashPoint.ts';
import { HrunError, messageOf } from '../../base/errors.ts';
import { newVmId } from '../../base/ids.ts';
import { type ProcessSpec, parseProcessSpec } from '../../oci/processSpec.ts';
import { parseRuntimeSpec } from '../../oci/runtimeSpec.ts';
import { maxSpecBytes } from '../../oci/specJson.ts';
import type { CallerFiles } from '../callerFiles.ts';
import { attachToExec } from '../execProcess.ts';
import { GuestProcess } from '../guestProcess.ts';
import { guestExec } from './guestContainer.ts';
import { joinCgroups } from './hostCgroups.ts';
import type { LiveExec, LiveOci } from './liveOci.ts';
import type { OciDeps } from './ociDeps.ts';
import type { OciCaller, OciExecFlags, OciExecRequest } from './ociEngine.ts';
import { ociEvent } from './ociEvents.ts';
import type { OciRecord, StandInRecord } from './ociRecord.ts';
import { writePidFile } from './pidFile.ts';
import { relayToStandIn } from './relay.ts';
import { StandInLink } from './standInLink.ts';

const undoLimitMs = 10_000;
/** Of a process whose container, or whose stand-in, ended without telling an exit. */
const diedExitCode = 137;
const never = new AbortController().signal;

/**
 * Runs one more process in a container, with a stand-in of its own that answers with its exit code, or at the command's
 * own terminal.
 * @returns the exit code; 0 when detached
 * @throws HrunError with runc's text where it has one
 */
export async function execOci(
  request: OciExecRequest,
  live: LiveOci,
  record: OciRecord,
  caller: OciCaller,
  deps: OciDeps,
  signal: AbortSignal,
): Promise<number> {
  const own = await ownProcess(record, deps);
  const spec = await processOf(request, own, caller.files, signal);
  checkExecConsole(request, spec);
  const processId = `exec-${randomBytes(8).toString('hex')}`;
  const { client } = await live.sandbox.guest.agent(signal);
  const process = new GuestProcess(live.sandbox.guest, record.id, processId);
  const tell = (action: string, more: Readonly<Record<string, string>> = {}) =>
    deps.events.record(ociEvent(record, action, { execID: processId, ...more }));
  tell(`exec_create: ${spec.args.join(' ')}`);
  if (request.stdio.kind === 'attached') {
    const { io } = request.stdio;
    await startInGuest(guestExec(record.id, processId, spec, own, io.terminalSize, request.ignorePaused));
    const plan = { terminal: true, openStdin: true, from: { stdout: 0n, stderr: 0n }, stdinBase: 0n };
    const ended = await attachToExec({ guest: live.sandbox.guest, id: record.id }, process, plan, io, signal);
    if (ended.kind !== 'exited') return 0;
    tell('exec_die', { exitCode: String(ended.exitCode) });
    return ended.exitCode;
  }
  await using undo = new AsyncDisposableStack();
  const runDir = join(deps.paths.vms, newVmId());
  await mkdir(runDir, { mode: 0o700 });
  undo.defer(() => rm(runDir, { recursive: true, force: true }));
  const standIn = undo.use(await openExecStandIn(request, spec, record, runDir, caller, signal));
  const { link, pid } = standIn;
  await joinCgroups(link.process.pid, record.cgroups);
  await startInGuest(guestExec(record.id, processId, spec, own, link.terminalSize, request.ignorePaused));
  await crashPoint('oci.exec.started');
  if (request.pidFile !== undefined) await writePidFile(request.pidFile, pid, caller.files, signal);
  const { pid: hostPid, startTicks } = link.process;
  const standInRecord: StandInRecord = {
    pid,
    hostPid,
    startTicks,
    controlPath: join(runDir, 'stand-in.sock'),
  };
  await deps.store.update(record.id, ({ execs }) => ({
    execs: [...execs, { processId, standIn: standInRecord }],
  }));
  undo.move();
  await crashPoint('oci.exec.recorded');
  const exec = superviseExec(live, process, link, standInRecord, deps);
  return request.detach ? 0 : await exec.ended;

  async function startInGuest(init: Parameters<typeof client.exec>[0]): Promise<void> {
    try {
      await client.exec(init, signal);
    } catch (error) {
      signal.throwIfAborted();
      const code = error instanceof HrunError ? error.code : 'AGENT_REFUSED';
      const message = `exec failed: unable to start container process: ${messageOf(error)}`;
      throw new HrunError(code, message, { cause: error });
    }
    tell(`exec_start: ${spec.args.join(' ')}`);
  }
}

/** Watches over a process of a container until its stand-in knows how it ended. */
export function superviseExec(
  live: LiveOci,
  process: GuestProcess,
  link: StandInLink,
  standIn: StandInRecord,
  deps: OciDeps,
): LiveExec {
  const { processId, containerId } = process;
  const signals = link.onSignal((signalNumber) => {
    const limit = AbortSignal.timeout(undoLimitMs);
    const request = { containerId, processId, signal: signalNumber, all: false };
    void live.sandbox.guest
      .agent(limit)
      .then(({ client }) => client.signal(request, limit))
      .catch(() => {});
  });
  const ended = relayToStandIn(process, link, never)
    .then(
      async (exit) => {
        await release(live, process);
        return exit.code;
      },
      async (error: unknown) => {
        // Its stand-in was killed: as with a process, nothing of it goes on.
        if (link.gone.aborted) await killProcess(live, process);
        deps.log.debug(
          { container: containerId, process: processId, err: error },
          'an exec ended without an exit',
        );
        return diedExitCode;
      },
    )
    .then(async (code) => {
      signals[Symbol.dispose]();
      await crashPoint('oci.exec.exited');
      await link.exit(code, never);
      live.execs.delete(processId);
      await rm(join(standIn.controlPath, '..'), { recursive: true, force: true });
      await deps.store
        .update(live.id, ({ execs }) => ({ execs: execs.filter((exec) => exec.processId !== processId) }))
        .catch(() => {}); // the container may be gone
      const record = deps.store.get(live.id);
      const attributes = { execID: processId, exitCode: String(code) };
      if (record !== undefined) deps.events.record(ociEvent(record, 'exec_die', attributes));
      return code;
    });
  const exec = { processId, link, ended: ended.catch(() => diedExitCode) };
  live.execs.set(processId, exec);
  return exec;
}

async function processOf(
  { processFile, flags }: OciExecRequest,
  own: ProcessSpec,
  files: CallerFiles,
  signal: AbortSignal,
): Promise<ProcessSpec> {
  if (processFile === undefined) return withFlags(own, flags);
  return parseProcessSpec(await files.readFile(processFile, maxSpecBytes + 1, signal), processFile);
}

/** What config.json said when the container was created. */
async function ownProcess({ id }: OciRecord, { store }: OciDeps): Promise<ProcessSpec> {
  const { process } = parseRuntimeSpec(await store.config(id));
  if (process === undefined) throw new HrunError('INTERNAL', 'the container has no process');
  return process;
}

/** As runc's getProcess: the container's own process with what the command line says. Pure. */
function withFlags(process: ProcessSpec, flags: OciExecFlags): ProcessSpec {
  const { user, capabilities } = process;
  const added = (names: readonly string[]) => [...names, ...flags.capabilities];
  return {
    ...process,
    args: [...flags.args],
    cwd: flags.cwd ?? process.cwd,
    env: [...process.env, ...flags.env],
    terminal: flags.terminal,
    noNewPrivileges: flags.noNewPrivileges ?? process.noNewPrivileges,
    user: {
      ...user,
      uid: flags.uid ?? user.uid,
      gid: flags.gid ?? user.gid,
      additionalGids: [...user.additionalGids, ...flags.additionalGids],
    },
    capabilities:
      capabilities === undefined || flags.capabilities.length === 0
        ? capabilities
        : {
            bounding: added(capabilities.bounding),
            effective: added(capabilities.effective),
            permitted: added(capabilities.permitted),
            inheritable: capabilities.inheritable,
            ambient: capabilities.ambient,
          },
  };
}

function checkExecConsole({ stdio, detach }: OciExecRequest, { terminal }: ProcessSpec): void {
  if (stdio.kind !== 'standIn') return;
  if (terminal && stdio.consoleSocket === undefined) {
    throw new HrunError(
      'INVALID_ARGUMENT',
      'cannot allocate tty if runc will detach without setting console socket',
    );
  }
  if (stdio.consoleSocket !== undefined && !(terminal && detach)) {
    throw new HrunError(
      'INVALID_ARGUMENT',
      'cannot use console socket if runc will not detach or allocate tty',
    );
  }
}

interface OpenStandIn extends AsyncDisposable {
  readonly link: StandInLink;
  readonly pid: number;
}

async function openExecStandIn(
  { stdio }: OciExecRequest,
  { args }: ProcessSpec,
  record: OciRecord,
  runDir: string,
  { files }: OciCaller,
  signal: AbortSignal,
): Promise<OpenStandIn> {
  const controlPath = join(runDir, 'stand-in.sock');
  const consoleSocket = stdio.kind === 'standIn' ? stdio.consoleSocket : undefined;
  const end = async () => {
    const limit = AbortSignal.timeout(undoLimitMs);
    const link = await StandInLink.dial(controlPath, limit).catch(() => undefined);
    await link?.exit(1, limit).catch(() => link.kill());
  };
  await using undo = new AsyncDisposableStack();
  undo.defer(end);
  const { pid } = await files.standIn(
    {
      controlPath,
      shares: [],
      title: args,
      ...(record.standIn && { namespaces: { of: record.standIn.pid } }),
      ...(consoleSocket === undefined
        ? { stdio: 'inherit' as const }
        : { stdio: 'terminal' as const, consoleSocket }),
    },
    signal,
  );
  const link = await StandInLink.dial(controlPath, signal);
  undo.move();
  return {
    link,
    pid,
    async [Symbol.asyncDispose]() {
      await link.exit(255, AbortSignal.timeout(undoLimitMs)).catch(() => link.kill());
    },
  };
}

async function release(live: LiveOci, { containerId, processId }: GuestProcess): Promise<void> {
  const limit = AbortSignal.timeout(live.sandbox.guest.limits.agentTimeoutMs);
  try {
    const { client } = await live.sandbox.guest.agent(limit);
    await client.releaseProcess({ containerId, processId }, limit);
  } catch {
    // Its container is ending, and everything in the guest with it.
  }
}

async function killProcess(live: LiveOci, { containerId, processId }: GuestProcess): Promise<void> {
  const limit = AbortSignal.timeout(live.sandbox.guest.limits.agentTimeoutMs);
  try {
    const { client } = await live.sandbox.guest.agent(limit);
    await client.signal({ containerId, processId, signal: 9, all: false }, limit);
    await client.releaseProcess({ containerId, processId }, limit);
  } catch {
    // As above.
  }
}
