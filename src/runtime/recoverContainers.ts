import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ContainerId } from '../base/ids.ts';
import { endProcess } from '../sys/endProcess.ts';
import { identifyProcess } from '../sys/processes.ts';
import { adoptCniNetworking } from './cniNetworking.ts';
import type { ContainerRecord, ContainerState } from './containerRecord.ts';
import { undoJoin } from './joinContainer.ts';
import type { LiveContainer } from './liveContainers.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';
import { endStrayStandIn } from './shares.ts';
import { resumeContainer, undoStart } from './startContainer.ts';
import { killContainer } from './stopContainer.ts';

/** How long a front door that lost its daemon may take to come back before its container goes on without it. */
const comeBackMs = 10_000;
const never = new AbortController().signal;

/**
 * Takes over what an earlier daemon left: running containers are watched again, starts that it did not finish are
 * undone, microVMs that belong to nobody are killed and their files removed.
 * @param awaited containers that a command of the earlier daemon was attached to
 * @param foreignRunDirs directories among those of microVMs that belong to containers of managers
 */
export async function recoverContainers(
  deps: RuntimeDeps,
  awaited: ReadonlySet<string>,
  foreignRunDirs: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<void> {
  const running = deps.store.list().filter(({ state }) => state.status === 'running');
  const kept = new Set<string | undefined>([
    ...foreignRunDirs,
    ...running.map(({ state }) => state.vmRunDir),
  ]);
  await killStrayVms(deps, kept, signal);
  for (const { id, state, name } of deps.store.list()) {
    if (!isUnfinished(state)) {
      // A copy from or to a container that does not run had a VM for the moment.
      if (state.status !== 'running' && state.vmRunDir !== undefined) {
        await deps.store.update(id, { vm: undefined, vmRunDir: undefined });
      }
      continue;
    }
    // there is something of it in a microVM that is to be taken over first
    if (state.joined !== undefined) continue;
    deps.log.info({ container: id, name }, 'undoing a start that an earlier daemon did not finish');
    await undo({ id, name }, deps, async () => {
      await adoptCniNetworking(deps.store.known(id), deps)?.[Symbol.asyncDispose]();
      await undoStart(id, deps);
    });
  }
  const isJoined = ({ state }: ContainerRecord) => state.joined !== undefined;
  const half = deps.store.list().filter((record) => isJoined(record) && isUnfinished(record.state));
  const resume = async (record: ContainerRecord) => {
    const live = await resumeContainer(await withoutLostNetworks(record, deps), deps);
    if (live !== undefined && awaited.has(record.id)) expectBack(live);
  };
  // At once: one that does not answer is waited for, and all others go on meanwhile. Those with a microVM first, then who
  // lives there.
  await Promise.all(running.filter((record) => !isJoined(record)).map(resume));
  await Promise.all(running.filter(isJoined).map(resume));
  for (const record of half) {
    await undo(record, deps, async () => {
      await undoJoin(record, deps);
      await undoStart(record.id, deps);
    });
  }
}

/** Others are served whatever is wrong with this one. */
async function undo(
  { id, name }: Pick<ContainerRecord, 'id' | 'name'>,
  deps: RuntimeDeps,
  work: () => Promise<void>,
): Promise<void> {
  await work().catch((error: unknown) =>
    deps.log.error({ container: id, name, err: error }, 'a start could not be undone'),
  );
}

function isUnfinished({ status, onFailedStart }: ContainerState): boolean {
  return status === 'starting' || onFailedStart === 'remove';
}

/** The command that was attached to a container may come back for its output. */
function expectBack(live: LiveContainer): void {
  const back = Promise.withResolvers<void>();
  live.expected = back.resolve;
  live.holders.add(back.promise);
  void sleep(comeBackMs, undefined, { ref: false }).then(back.resolve);
  void back.promise.then(() => live.holders.delete(back.promise));
}

/** A network of which nothing is known any more cannot be kept up; the container must not say that it is in it. */
async function withoutLostNetworks(record: ContainerRecord, deps: RuntimeDeps): Promise<ContainerRecord> {
  const known = new Set(deps.networkStore.list().map(({ id }) => id));
  const { endpoints = [] } = record.state;
  const lost = endpoints.filter(({ networkId }) => !known.has(networkId));
  if (lost.length === 0) return record;
  deps.log.error(
    { container: record.id, networks: lost.map(({ network }) => network) },
    'a container has lost its network, which cannot be read',
  );
  return await deps.store.update(record.id, { endpoints: endpoints.filter((one) => !lost.includes(one)) });
}

/** Every QEMU of ours carries its VM's id, which is also the name of its run directory. */
async function killStrayVms(
  deps: RuntimeDeps,
  keep: ReadonlySet<string | undefined>,
  signal: AbortSignal,
): Promise<void> {
  const strays = (await readdir(deps.paths.vms)).filter((vmId) => !keep.has(join(deps.paths.vms, vmId)));
  if (strays.length === 0) return;
  const names = new Set(strays.map((vmId) => `hrun-${vmId}`));
  for (const entry of await readdir('/proc')) {
    const command = await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '');
    if (!command.split('\0').some((argument) => names.has(argument))) continue;
    const process = await identifyProcess(Number(entry));
    if (process === undefined) continue;
    deps.log.warn({ pid: process.pid }, 'killing the microVM of an earlier daemon that belongs to nobody');
    await endProcess(process, signal);
  }
  for (const vmId of strays) {
    const runDir = join(deps.paths.vms, vmId);
    // A stand-in that once had a daemon waits for the next one for as long as it takes.
    await endStrayStandIn(runDir, AbortSignal.timeout(comeBackMs));
    await rm(runDir, { recursive: true, force: true });
  }
}

/** Ends every container at once, for a daemon that is told to stop whatever runs. */
export async function killAllContainers(deps: RuntimeDeps): Promise<readonly ContainerId[]> {
  const ids = deps.live.ids();
  await Promise.all(
    ids.map(async (id) => {
      const live = deps.live.get(id);
      const record = deps.store.get(id);
      if (live !== undefined && record !== undefined) await killContainer(live, record, deps, never);
    }),
  );
  return ids;
}
