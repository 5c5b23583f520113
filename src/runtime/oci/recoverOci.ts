import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { HrunError, messageOf } from '../../base/errors.ts';
import { parseContainerId, parseVmId } from '../../base/ids.ts';
import { adoptGuestVm } from '../../pool/guestVm.ts';
import { endPooled } from '../../pool/readyGuest.ts';
import { removeCgroups } from '../../sys/cgroups.ts';
import { endProcess } from '../../sys/endProcess.ts';
import { GuestProcess } from '../guestProcess.ts';
import { initProcessId } from '../launchContainer.ts';
import { endStrayStandIn } from '../shares.ts';
import { StandInHost } from '../standInHost.ts';
import { superviseExec } from './execOci.ts';
import type { LiveOci, Sandbox } from './liveOci.ts';
import type { OciDeps } from './ociDeps.ts';
import type { OciRecord } from './ociRecord.ts';
import { StandInLink } from './standInLink.ts';
import { superviseOci } from './superviseOci.ts';

const diedExitCode = 137;
const limitMs = 10_000;
const never = new AbortController().signal;

/** Directories of microVMs and stand-ins that belong to somebody. */
export function ociRunDirs(records: readonly OciRecord[]): Set<string> {
  const kept = records.filter(({ status }) => status !== 'creating');
  return new Set(
    kept.flatMap(({ status, vmRunDir, runDir, execs }) => [
      // What is left of a microVM whose container has stopped is nobody's any more.
      ...(status === 'stopped' ? [] : [vmRunDir]),
      runDir,
      ...execs.map(({ standIn }) => dirname(standIn.controlPath)),
    ]),
  );
}

/**
 * Takes over the containers of managers that an earlier daemon left: those that live are watched again, those that died
 * meanwhile are told as stopped, those that were never finished are removed.
 */
export async function recoverOci(deps: OciDeps, signal: AbortSignal): Promise<void> {
  const records = deps.store.list();
  // Whose microVM it is comes first.
  await Promise.all(records.filter(ownsVm).map((record) => recover(record, deps, signal)));
  await Promise.all(
    records.filter((record) => !ownsVm(record)).map((record) => recover(record, deps, signal)),
  );
}

function ownsVm({ id, sandbox }: OciRecord): boolean {
  return id === sandbox;
}

async function recover(record: OciRecord, deps: OciDeps, signal: AbortSignal): Promise<void> {
  try {
    if (record.status === 'creating') await forget(record, deps);
    else if (record.status === 'stopped') await finishExit(record);
    else await adopt(record, deps, signal);
  } catch (error) {
    deps.log.warn({ container: record.name, err: error }, 'a container ended while no daemon ran');
    await tellEnd(record, messageOf(error), deps);
  }
}

async function adopt(record: OciRecord, deps: OciDeps, signal: AbortSignal): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const sandbox = await sandboxOf(record, deps, signal);
  if (sandbox.owner === record.id) undo.defer(() => sandbox.end());
  if (record.standIn === undefined) throw new HrunError('VM_DIED', 'its state names no stand-in');
  const { client } = await sandbox.guest.agent(signal);
  const known = (await client.listContainers(signal)).find(({ containerId }) => containerId === record.id);
  const link = await StandInLink.dial(record.standIn.controlPath, AbortSignal.timeout(limitMs));
  // The daemon may have died between the start and its record.
  const started = record.status === 'created' && known !== undefined && known.status !== 'created';
  const now = started ? await deps.store.update(record.id, { status: 'running' }) : record;
  const init = new GuestProcess(sandbox.guest, record.id, initProcessId);
  const live = superviseOci(now, sandbox, link, init, deps);
  undo.move();
  for (const exec of record.execs) await adoptExec(live, exec, deps);
}

async function adoptExec(
  live: LiveOci,
  { processId, standIn }: OciRecord['execs'][number],
  deps: OciDeps,
): Promise<void> {
  const link = await StandInLink.dial(standIn.controlPath, AbortSignal.timeout(limitMs)).catch(
    () => undefined,
  );
  if (link === undefined) {
    await rm(dirname(standIn.controlPath), { recursive: true, force: true });
    await deps.store.update(live.id, ({ execs }) => ({
      execs: execs.filter((exec) => exec.processId !== processId),
    }));
    return;
  }
  superviseExec(live, new GuestProcess(live.sandbox.guest, live.id, processId), link, standIn, deps);
}

async function sandboxOf(record: OciRecord, deps: OciDeps, signal: AbortSignal): Promise<Sandbox> {
  const owner = parseContainerId(record.sandbox);
  if (owner !== record.id) {
    const live = deps.live.get(owner);
    if (live === undefined) throw new HrunError('VM_DIED', 'the container whose microVM it lived in is gone');
    return live.sandbox;
  }
  const { vm } = record;
  if (vm === undefined) throw new HrunError('VM_DIED', 'its state names no microVM');
  const { vsockCid, ...known } = vm;
  const vmRecord = { ...known, id: parseVmId(vm.id), ...(vsockCid !== undefined && { vsockCid }) };
  await using undo = new AsyncDisposableStack();
  const guest = undo.use(await adoptGuestVm(vmRecord, await deps.vmm(signal), deps.config, signal));
  const host = record.shareHost && (await StandInHost.adopt(record.vmRunDir, AbortSignal.timeout(limitMs)));
  undo.move();
  const end = async () => {
    if (host !== undefined) return await endPooled({ id: vmRecord.id, runDir: record.vmRunDir, guest, host });
    await guest[Symbol.asyncDispose]();
  };
  return { owner, guest, host, members: new Set(), end };
}

/** Nobody was told of it: it goes without a trace. Its microVM and stand-in are ended with the stray ones. */
async function forget(record: OciRecord, deps: OciDeps): Promise<void> {
  await removeCgroups(record.cgroups, AbortSignal.timeout(limitMs)).catch(() => {});
  await deps.store.remove(record.id);
}

/** The daemon died after the end was on disk and before the stand-in had it. */
async function finishExit(record: OciRecord): Promise<void> {
  // Of a microVM that died with the daemon the share server's stand-in still waits for the next one.
  if (ownsVm(record) && record.shareHost !== undefined) {
    await endStrayStandIn(record.vmRunDir, AbortSignal.timeout(limitMs));
  }
  if (record.standIn !== undefined) {
    const limit = AbortSignal.timeout(limitMs);
    const link = await StandInLink.dial(record.standIn.controlPath, limit).catch(() => undefined);
    await link?.exit(record.exitCode, limit).catch(() => {});
  }
  await rm(record.runDir, { recursive: true, force: true });
  if (record.sandbox === record.id) await rm(record.vmRunDir, { recursive: true, force: true });
}

async function tellEnd(record: OciRecord, error: string, deps: OciDeps): Promise<void> {
  const { exit, vm } = record;
  // it may run, and not obey, or have lost its stand-in
  if (vm !== undefined && ownsVm(record)) {
    await endProcess({ pid: vm.pid, startTicks: vm.pidStartTicks }, never);
  }
  const end =
    exit === undefined
      ? { exitCode: diedExitCode, error }
      : { exitCode: exit.code, oomKilled: exit.oomKilled, error: '' };
  const stopped = await deps.store.update(record.id, { status: 'stopped', paused: false, execs: [], ...end });
  for (const { standIn } of record.execs) {
    const limit = AbortSignal.timeout(limitMs);
    const link = await StandInLink.dial(standIn.controlPath, limit).catch(() => undefined);
    await link?.exit(diedExitCode, limit).catch(() => {});
    await rm(dirname(standIn.controlPath), { recursive: true, force: true });
  }
  await finishExit(stopped);
}
