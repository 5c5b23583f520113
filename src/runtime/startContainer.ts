import { setTimeout as sleep } from 'node:timers/promises';
import { crashPoint } from '../base/crashPoint.ts';
import { HrunError, messageOf } from '../base/errors.ts';
import type { ContainerId } from '../base/ids.ts';
import { PhaseClock } from '../base/phases.ts';
import { isOutOfMemory } from '../vmm/outOfMemory.ts';
import { type ContainerRecord, type ContainerState, mayBecome } from './containerRecord.ts';
import type { OutputSink } from './guestProcess.ts';
import { adoptJoined, joinContainer } from './joinContainer.ts';
import {
  adoptContainer,
  type LaunchOptions,
  type PreparedContainer,
  prepareContainer,
} from './launchContainer.ts';
import type { ContainerEnd, LiveContainer } from './liveContainers.ts';
import type { OutputPosition } from './logRecord.ts';
import type { OutputLog } from './outputLog.ts';
import { removeContainer } from './removeContainer.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';
import { keepsDisks } from './volumes/holders.ts';

/** How far a command that reads the output may fall behind before the workload is held back. */
const readerLagBytes = 1024 * 1024;
/** Of a VM that ended without telling an exit: as if killed by SIGKILL. */
const diedExitCode = 137;
const never = new AbortController().signal;

export interface StartOptions extends LaunchOptions {
  /** Awaited when all is prepared and nothing runs yet; its failure undoes the start. */
  beforeStart(): Promise<void>;
}

/**
 * Brings a container to run: boots, prepares, starts, and from then on watches over it until its end is on disk.
 * A start that fails leaves the container as it was before.
 * @throws HrunError WRONG_STATE when it runs, COMMAND_NOT_FOUND and the like, or why the VM could not be had
 */
export async function startContainer(
  id: ContainerId,
  deps: RuntimeDeps,
  options: StartOptions,
  signal: AbortSignal,
): Promise<LiveContainer> {
  using _disks = await deps.live.disks.lock(id, signal);
  using _launching = deps.guests.launching();
  const record = deps.store.known(id);
  const before = record.state;
  if (!mayBecome(before.status, 'starting')) {
    throw new HrunError('WRONG_STATE', `container ${record.name} is ${before.status}`);
  }
  const starting: Partial<ContainerState> = {
    status: 'starting',
    onFailedStart: before.onFailedStart ?? (before.status === 'exited' ? 'exited' : 'created'),
  };
  try {
    await using undo = new AsyncDisposableStack();
    const prepare = record.config.network.sharedWith === undefined ? prepareContainer : joinContainer;
    const prepared = undo.use(await prepare(record, deps, options, starting, signal));
    const { stdout, stderr } = prepared.log.lengths;
    await options.beforeStart();
    await crashPoint('start.told');
    const { client } = await prepared.guest.agent(signal);
    signal.throwIfAborted();
    prepared.init.attachEarly(client, never);
    await client.startContainer(id, never);
    await crashPoint('start.started');
    options.phases.end('start');
    deps.launches.add(options.phases.timing());
    const running = await deps.store.update(id, {
      status: 'running',
      startedAt: new Date().toISOString(),
      finishedAt: undefined,
      exit: undefined,
      exitCode: 0,
      oomKilled: false,
      error: '',
      onFailedStart: undefined,
      ...(!prepared.tenancy.joined && { vm: prepared.guest.vm.record }),
      accelerator: prepared.accelerator,
      standInPid: prepared.standInPid,
      logBase: { stdout: Number(stdout), stderr: Number(stderr) },
    });
    await crashPoint('start.recorded');
    undo.move();
    return watch(running, prepared, deps, options.phases);
  } catch (error) {
    if (deps.store.get(id)?.state.status === 'starting') await undoStart(id, deps);
    throw error;
  }
}

/** Goes on watching a container that an earlier daemon started; one whose VM is gone is told as ended. */
export async function resumeContainer(
  record: ContainerRecord,
  deps: RuntimeDeps,
): Promise<LiveContainer | undefined> {
  try {
    const adopt = record.config.network.sharedWith === undefined ? adoptContainer : adoptJoined;
    return watch(record, await adopt(record, deps, never), deps, new PhaseClock(deps.now));
  } catch (error) {
    const { exit } = record.state;
    await recordEnd(record.id, exit === undefined ? diedWith(error) : endNoted(exit), deps);
    if (record.config.autoRemove) await deps.store.remove(record.id);
    return undefined;
  }
}

/** What a start that did not succeed makes of its container. */
export async function undoStart(
  id: ContainerId,
  deps: Pick<RuntimeDeps, 'store' | 'volumes'>,
): Promise<void> {
  const status = deps.store.get(id)?.state.onFailedStart;
  if (status === 'remove') return await removeContainer(id, deps, { withVolumes: true });
  await deps.store.update(id, {
    status: status ?? 'created',
    onFailedStart: undefined,
    vm: undefined,
    vmRunDir: undefined,
    nicSlots: undefined,
    standInPid: undefined,
    joined: undefined,
    endpoints: undefined,
    cni: undefined,
  });
}

function watch(
  record: ContainerRecord,
  prepared: PreparedContainer,
  deps: RuntimeDeps,
  phases: PhaseClock,
): LiveContainer {
  const { id, config } = record;
  const holders = new Set<Promise<void>>();
  const ended = superviseToEnd(record, prepared, deps, phases, !config.autoRemove || keepsDisks(config));
  const finished = ended.then(async () => {
    while (holders.size > 0) await Promise.allSettled(holders);
    if (config.autoRemove) await deps.store.remove(id);
    deps.live.delete(id);
    phases.end('teardown');
  });
  finished.catch((error: unknown) =>
    deps.log.error({ container: id, err: error }, 'could not finish a container'),
  );
  const { guest, init, log, tenancy } = prepared;
  const live: LiveContainer = {
    id,
    guest,
    tenancy,
    init,
    log,
    ended,
    finished,
    holders,
    expected: undefined,
    inputOwner: undefined,
    timing: () => phases.timing(),
  };
  deps.live.add(live);
  return live;
}

async function superviseToEnd(
  { id, name, state }: ContainerRecord,
  prepared: PreparedContainer,
  deps: RuntimeDeps,
  phases: PhaseClock,
  keepDisk: boolean,
): Promise<ContainerEnd> {
  const { guest, init, log, tenancy } = prepared;
  const { logBase } = state;
  const dismiss = () =>
    tenancy.members.dismiss(
      new HrunError('WRONG_STATE', `the microVM ended with container ${name}, whose it was`),
    );
  let end: ContainerEnd;
  try {
    const base: OutputPosition = { stdout: BigInt(logBase.stdout), stderr: BigInt(logBase.stderr) };
    const exit = await init.follow(positionAfter(log, base), sinkOf(prepared, base), tenancy.over);
    phases.end('workload');
    end = { exitCode: exit.code, oomKilled: exit.oomKilled, error: tenancy.endedBecause };
    await noteExit(id, exit, deps);
    await crashPoint('end.exited');
    await dismiss();
    if (keepDisk && !tenancy.joined) await settleDisk(id, prepared, deps);
  } catch (error) {
    end = state.exit === undefined ? diedWith(error) : endNoted(state.exit);
    deps.log.warn({ container: id, vm: guest.vm.record.id, err: error }, 'a container died with its microVM');
    await dismiss();
  }
  await tenancy.leave();
  await crashPoint('end.killed');
  await recordEnd(id, end, deps);
  await crashPoint('end.recorded');
  await prepared[Symbol.asyncDispose]();
  return end;
}

function diedWith(error: unknown): ContainerEnd {
  return { exitCode: diedExitCode, oomKilled: isOutOfMemory(error), error: messageOf(error) };
}

/** An earlier daemon had it from the guest, and died while it took everything down. */
function endNoted({ code, oomKilled }: NonNullable<ContainerState['exit']>): ContainerEnd {
  return { exitCode: code, oomKilled, error: '' };
}

function positionAfter({ lengths }: OutputLog, base: OutputPosition): OutputPosition {
  return { stdout: lengths.stdout - base.stdout, stderr: lengths.stderr - base.stderr };
}

function sinkOf({ guest, log, init }: PreparedContainer, base: OutputPosition): OutputSink {
  const ended = new AbortController();
  void guest.vm.ended.then(() => ended.abort());
  return async (stream, offset, data) => {
    await log.append(stream, base[stream] + offset, data, BigInt(Date.now()) * 1_000_000n, ended.signal);
    init.acknowledge(positionAfter(log, base));
    await log.whenCaughtUp(readerLagBytes, never);
  };
}

/** Unmounts and syncs the writable disk, so that the container can be started again. */
async function settleDisk(id: ContainerId, { guest }: PreparedContainer, deps: RuntimeDeps): Promise<void> {
  const deadline = AbortSignal.timeout(deps.config.agentTimeoutMs);
  try {
    const { client } = await guest.agent(deadline);
    await client.deleteContainer(id, deadline);
  } catch (error) {
    deps.log.warn({ container: id, err: error }, 'the writable disk was not unmounted cleanly');
  }
}

/** The microVM must not take the exit code with it. Where there is no room for it, the end waits for some. */
async function noteExit(
  id: ContainerId,
  { code, oomKilled }: { readonly code: number; readonly oomKilled: boolean },
  deps: RuntimeDeps,
): Promise<void> {
  await deps.store.update(id, { exit: { code, oomKilled } }).catch((error: unknown) => {
    deps.log.warn({ container: id, err: error }, 'cannot note down an exit code yet');
  });
}

async function recordEnd(id: ContainerId, end: ContainerEnd, deps: RuntimeDeps): Promise<void> {
  for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, 10_000)) {
    try {
      await deps.store.update(id, {
        status: 'exited',
        finishedAt: new Date().toISOString(),
        ...end,
        exit: undefined,
        vm: undefined,
        vmRunDir: undefined,
        nicSlots: undefined,
        standInPid: undefined,
        joined: undefined,
        endpoints: undefined,
        cni: undefined,
      });
      return;
    } catch (error) {
      // An end that is not on disk is not told: a full disk is waited for.
      deps.log.error({ container: id, err: error }, 'cannot write down how a container ended');
      await sleep(pauseMs);
    }
  }
}
