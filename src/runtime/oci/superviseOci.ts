import { rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortable } from '../../base/abort.ts';
import { crashPoint } from '../../base/crashPoint.ts';
import { HrunError, messageOf } from '../../base/errors.ts';
import type { ContainerId } from '../../base/ids.ts';
import type { GuestProcess } from '../guestProcess.ts';
import { initProcessId } from '../launchContainer.ts';
import type { LiveOci, Sandbox } from './liveOci.ts';
import { relayNames } from './nameRelay.ts';
import { disconnectNetwork } from './networkOci.ts';
import type { OciDeps } from './ociDeps.ts';
import type { OciRecord } from './ociRecord.ts';
import { echoOom } from './oomEcho.ts';
import { relayToStandIn } from './relay.ts';
import type { StandInLink } from './standInLink.ts';

/** Of a microVM, or a stand-in, that ended without telling an exit: as if killed by SIGKILL. */
const diedExitCode = 137;
/** For each step of an end that another process has to do. */
const stepLimitMs = 10_000;
const never = new AbortController().signal;

interface End {
  readonly exitCode: number;
  readonly oomKilled: boolean;
  readonly error: string;
}

/**
 * Watches over a created container until it has stopped and everybody knows: its output is relayed from now on, signals
 * for its stand-in go to its process, and its end is carried out in the one order that managers can live with.
 */
export function superviseOci(
  record: OciRecord,
  sandbox: Sandbox,
  link: StandInLink,
  init: GuestProcess,
  deps: OciDeps,
): LiveOci {
  const tornDown = new AbortController();
  let told: End | undefined;
  const execs: LiveOci['execs'] = new Map();
  const signals = link.onSignal((signalNumber) => void passSignal(record.id, sandbox, signalNumber));
  const awaitEnd = async (): Promise<End> => {
    try {
      const exit = await relayToStandIn(init, link, tornDown.signal);
      return { exitCode: exit.code, oomKilled: exit.oomKilled, error: '' };
    } catch (error) {
      const { exit } = record;
      // an earlier daemon had it from the guest, and died while it took everything down
      if (exit !== undefined) return { exitCode: exit.code, oomKilled: exit.oomKilled, error: '' };
      if (told !== undefined) return told;
      deps.log.warn(
        { container: record.name, err: error },
        'a container ended without an exit of its process',
      );
      return { exitCode: diedExitCode, oomKilled: false, error: messageOf(error) };
    }
  };
  const over = new AbortController();
  if (record.relaysNames) relayNames(sandbox.guest, link.process.pid, deps.log, over.signal);
  let emulatorGone: Promise<void> | undefined;
  const ended = awaitEnd().then(async (end) => {
    signals[Symbol.dispose]();
    over.abort();
    if (end.error === '') await noteExit(record.id, end, deps);
    ({ emulatorGone } = await carryOutEnd(live, end, deps));
    return end.exitCode;
  });
  const finished = ended.then(async (code) => {
    await Promise.all([...execs.values()].map(({ ended: execEnded }) => execEnded));
    // Whoever does not read what was said last is waited for, as a pipe would.
    await link.exit(code, never);
    await waitUntilLeft(link);
    await emulatorGone;
    await rm(record.runDir, { recursive: true, force: true });
    deps.live.delete(record.id);
  });
  finished.catch((error: unknown) =>
    deps.log.error({ container: record.name, err: error }, 'could not finish'),
  );
  const live: LiveOci = {
    id: record.id,
    sandbox,
    link,
    init,
    execs,
    ended,
    finished,
    over: over.signal,
    tearDown(code, why) {
      told ??= { exitCode: code, oomKilled: false, error: why };
      tornDown.abort(new HrunError('CANCELLED', why));
    },
  };
  sandbox.members.add(record.id);
  if (sandbox.owner === record.id) {
    void sandbox.host?.ended.then(() => live.tearDown(diedExitCode, 'the share server ended'));
  }
  deps.live.add(live);
  return live;
}

/**
 * Guest synced → share server and binds gone → microVM killed → end on disk; the stand-in exits after that. Otherwise the
 * manager's umount is busy, or its next overlay "in use".
 */
async function carryOutEnd(
  live: LiveOci,
  end: End,
  deps: OciDeps,
): Promise<{ readonly emulatorGone: Promise<void> }> {
  const { id, sandbox, link } = live;
  const owns = sandbox.owner === id;
  const attempt = async (what: string, step: (limit: AbortSignal) => Promise<unknown>) => {
    await step(AbortSignal.timeout(stepLimitMs)).catch((error: unknown) =>
      deps.log.warn({ container: id, err: error }, `could not ${what}`),
    );
  };
  if (!owns || end.error === '') {
    await attempt('unmount in the guest', async (limit) => {
      const { client } = await sandbox.guest.agent(limit);
      await client.deleteContainer(id, limit);
    });
  }
  if (owns) {
    for (const member of sandbox.members) {
      if (member !== id)
        deps.live.get(member)?.tearDown(diedExitCode, 'the microVM ended with its first container');
    }
    await Promise.all([...sandbox.members].filter((m) => m !== id).map((m) => deps.live.get(m)?.ended));
  }
  const { host } = sandbox;
  // It has the files open that are about to be taken away.
  if (owns && host !== undefined) await attempt('end the share server', (limit) => host.closeShares(limit));
  await attempt('close the shares', (limit) => link.closeShares(limit));
  // Killed, it does nothing any more; that it gives its memory back is not waited for.
  const emulatorGone = owns ? attempt('kill the microVM', () => sandbox.end()) : Promise.resolve();
  sandbox.members.delete(id);
  const record = deps.store.get(id);
  if (record !== undefined) await attempt('free the interfaces', async () => disconnectNetwork(record));
  if (end.oomKilled && record !== undefined) {
    await emulatorGone;
    await attempt('tell the manager of an OOM', (limit) => echoOom(link, record.cgroups, limit));
  }
  await crashPoint('oci.killed');
  await writeDownEnd(id, end, deps);
  return { emulatorGone };
}

/** The microVM must not take the exit code with it. */
async function noteExit(id: ContainerId, { exitCode, oomKilled }: End, deps: OciDeps): Promise<void> {
  await deps.store.update(id, { exit: { code: exitCode, oomKilled } }).catch((error: unknown) => {
    deps.log.warn({ container: id, err: error }, 'cannot note down an exit code yet');
  });
}

async function writeDownEnd(id: ContainerId, end: End, deps: OciDeps): Promise<void> {
  for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, 10_000)) {
    try {
      await deps.store.update(id, { status: 'stopped', paused: false, execs: [], ...end });
      return;
    } catch (error) {
      if (deps.store.get(id) === undefined) return;
      // An end that is not on disk is not told: a full disk is waited for.
      deps.log.error({ container: id, err: error }, 'cannot write down how a container ended');
      await sleep(pauseMs);
    }
  }
}

async function passSignal(id: ContainerId, { guest }: Sandbox, signalNumber: number): Promise<void> {
  try {
    const limit = AbortSignal.timeout(stepLimitMs);
    const { client } = await guest.agent(limit);
    await client.signal(
      { containerId: id, processId: initProcessId, signal: signalNumber, all: false },
      limit,
    );
  } catch {
    // It may just have ended; its exit is told anyway.
  }
}

/** Its process holds the cgroup and, until it is gone, the manager's child. */
async function waitUntilLeft(link: StandInLink): Promise<void> {
  const left = Promise.withResolvers<void>();
  if (link.gone.aborted) return;
  link.gone.addEventListener('abort', () => left.resolve(), { once: true });
  await abortable(left.promise, AbortSignal.timeout(stepLimitMs)).catch(() => {});
}
