import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MountInit } from '../agent/types.ts';
import { crashPoint } from '../base/crashPoint.ts';
import { HrunError, isHrunError } from '../base/errors.ts';
import { exists } from '../base/exists.ts';
import { type ContainerId, parseContainerId } from '../base/ids.ts';
import type { GuestVm } from '../pool/guestVm.ts';
import type { ContainerRecord, ContainerState } from './containerRecord.ts';
import { guestContainer } from './guestContainer.ts';
import { imageDiskSerial, scratchDiskSerial } from './guestDevices.ts';
import { GuestProcess } from './guestProcess.ts';
import {
  initProcessId,
  type LaunchOptions,
  makeScratchDisk,
  openContainerLog,
  type PreparedContainer,
} from './launchContainer.ts';
import type { LiveContainer } from './liveContainers.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';
import { noSharesInside } from './sharedNetwork.ts';
import { Members, type Tenancy } from './tenancy.ts';
import { holdersOf } from './volumes/holders.ts';
import { openMounts } from './volumes/openMounts.ts';

const sigkill = 9;
/** For the guest to carry out a SIGKILL before it is not asked any more. */
const killGraceMs = 5_000;
/** Files by which names are found: those of the container whose network it is. */
const nameFilePaths = ['/etc/hostname', '/etc/hosts', '/etc/resolv.conf'];

/**
 * Prepares a container in the microVM of the one whose network it has, as prepareContainer does in one of its own: its
 * disks are plugged, and the guest's network namespace is that of all who live there.
 * @throws HrunError WRONG_STATE when that container does not run; nothing is left behind, whatever went wrong
 */
export async function joinContainer(
  record: ContainerRecord,
  deps: RuntimeDeps,
  { files, progress, phases, terminalSize }: LaunchOptions,
  starting: Partial<ContainerState>,
  signal: AbortSignal,
): Promise<PreparedContainer> {
  const { id, config } = record;
  const host = runningHost(record, deps);
  const { guest } = host;
  await using undo = new AsyncDisposableStack();
  undo.use(host.tenancy.members.enter());
  const until = AbortSignal.any([signal, host.tenancy.members.over]);
  const log = undo.use(await openContainerLog(record, deps));
  const serialPrefix = `${id.slice(0, 8)}-`;
  const holders = (key: string) => holdersOf(key, deps.store.list(), id);
  const mounts = undo.use(
    await openMounts(record, { ...deps, files, progress, holders, serialPrefix }, until),
  );
  if (mounts.shares.length > 0) throw noSharesInside();
  const disk = undo.use(
    await deps.images.openDisk(config.imageId, { progress, allowWeakerJail: config.allowWeakerJail }, until),
  );
  const root = {
    imageSerial: `${serialPrefix}${imageDiskSerial}`,
    imageFs: disk.fs,
    scratchSerial: `${serialPrefix}${scratchDiskSerial}`,
  };
  const serials = [root.imageSerial, root.scratchSerial, ...mounts.serials];
  await deps.store.update(id, { ...starting, joined: { serials } });
  const scratchPath = join(deps.store.directoryOf(id), 'scratch.raw');
  if (!(await exists(scratchPath))) await makeScratchDisk(scratchPath, config, undefined, deps, until);
  phases.end('disks');
  const tenancy = joinedTenancy(id, host, serials, deps);
  undo.defer(() => tenancy.leave());
  await guest.vm.plugDisk({ serial: root.imageSerial, path: disk.path, readonly: true }, until);
  await guest.vm.plugDisk({ serial: root.scratchSerial, path: scratchPath, readonly: false }, until);
  await mounts.plug(guest.vm, until);
  await crashPoint('start.booted');
  phases.launched({ kind: 'joined' });
  const { client } = await guest.agent(until);
  {
    using _filling = await deps.live.fillTurns.take(config, until);
    const all = [...mounts.mounts, ...nameFilesOf(host.id)];
    await client.createContainer(guestContainer(record, root, terminalSize, undefined, all), until);
  }
  phases.end('rootfs');
  await crashPoint('start.created');
  return { ...preparedIn(id, host, tenancy, deps, undo.move()), log };
}

/**
 * A container of an earlier daemon, still running in the microVM of another.
 * @throws HrunError VM_DIED when that one is gone
 */
export async function adoptJoined(record: ContainerRecord, deps: RuntimeDeps): Promise<PreparedContainer> {
  const { id, state } = record;
  const host = deps.live.get(hostIdOf(record));
  if (host === undefined) throw new HrunError('VM_DIED', 'the container whose microVM it lived in has ended');
  await using undo = new AsyncDisposableStack();
  undo.use(host.tenancy.members.enter());
  const log = undo.use(await openContainerLog(record, deps));
  const tenancy = joinedTenancy(id, host, state.joined?.serials ?? [], deps);
  undo.defer(() => tenancy.leave());
  return { ...preparedIn(id, host, tenancy, deps, undo.move()), log };
}

/** Takes out of a microVM what a daemon that died had put there for a start that it did not finish. */
export async function undoJoin(record: ContainerRecord, deps: RuntimeDeps): Promise<void> {
  const host = deps.live.get(hostIdOf(record));
  if (host === undefined) return;
  await takeOut(record.id, host.guest, record.state.joined?.serials ?? [], deps);
}

function preparedIn(
  id: ContainerId,
  { id: hostId, guest }: LiveContainer,
  tenancy: Tenancy,
  { store }: RuntimeDeps,
  owned: AsyncDisposableStack,
): Omit<PreparedContainer, 'log'> {
  return {
    guest,
    init: new GuestProcess(guest, id, initProcessId),
    standInPid: undefined,
    accelerator: store.get(hostId)?.state.accelerator,
    tenancy,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function hostIdOf({ config }: ContainerRecord): ContainerId {
  return parseContainerId(config.network.sharedWith ?? '');
}

function runningHost(record: ContainerRecord, { live, store }: RuntimeDeps): LiveContainer {
  const id = hostIdOf(record);
  const { name } = store.known(id);
  const host = live.get(id);
  if (host !== undefined) return host;
  throw new HrunError('WRONG_STATE', `cannot join network of a non running container: ${name}`, {
    hint: `start it first: hrun start ${name}`,
  });
}

/** The very files, so that a change of them is seen by all. */
function nameFilesOf(containerId: ContainerId): MountInit[] {
  return nameFilePaths.map((path) => ({
    destination: path,
    options: ['rprivate'],
    source: { case: 'container', value: { containerId, path } },
  }));
}

function joinedTenancy(
  id: ContainerId,
  host: LiveContainer,
  serials: readonly string[],
  deps: RuntimeDeps,
): Tenancy {
  const torn = new AbortController();
  const left = new AbortController();
  const { over } = host.tenancy.members;
  let leaving: Promise<void> | undefined;
  let endedBecause = '';
  const end = async () => {
    endedBecause = over.reason instanceof Error ? over.reason.message : '';
    await killIn(host.guest, id);
    const late = await sleep(killGraceMs, true, { signal: left.signal }).catch(() => false);
    if (late) torn.abort(over.reason);
  };
  const onOver = () => void end();
  over.addEventListener('abort', onOver, { once: true });
  return {
    members: new Members(),
    joined: true,
    over: torn.signal,
    get endedBecause() {
      return endedBecause;
    },
    async kill() {
      torn.abort(new HrunError('CANCELLED', 'it was killed, and its guest did not answer'));
    },
    leave() {
      leaving ??= takeOut(id, host.guest, serials, deps).finally(() => {
        over.removeEventListener('abort', onOver);
        left.abort();
      });
      return leaving;
    },
  };
}

/** It may just have ended, or never have been there. */
async function killIn(guest: GuestVm, id: ContainerId): Promise<void> {
  const limit = AbortSignal.timeout(killGraceMs);
  const request = { containerId: id, processId: initProcessId, signal: sigkill, all: false };
  await guest
    .agent(limit)
    .then(
      ({ client }) => client.signal(request, limit),
      () => {},
    )
    .catch(() => {});
}

/** Unmounts what a container has in a guest, and unplugs its disks. Never rejects. */
async function takeOut(
  id: ContainerId,
  guest: GuestVm,
  serials: readonly string[],
  { log }: Pick<RuntimeDeps, 'log'>,
): Promise<void> {
  const limit = () => AbortSignal.timeout(guest.limits.agentTimeoutMs);
  try {
    const { client } = await guest.agent(limit());
    await client.deleteContainer(id, limit());
  } catch (error) {
    // with its microVM all of it is gone
    if (isHrunError(error, 'VM_DIED')) return;
    if (!isHrunError(error, 'NOT_FOUND')) {
      log.warn({ container: id, err: error }, 'a container could not be unmounted in a guest that goes on');
    }
  }
  for (const serial of serials) {
    try {
      await guest.vm.unplugDisk(serial, limit());
    } catch (error) {
      if (isHrunError(error, 'NOT_FOUND')) continue;
      log.warn({ container: id, serial, err: error }, 'a disk could not be unplugged from a guest');
    }
  }
}
