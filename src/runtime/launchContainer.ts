import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { MountInit, ProcessInit } from '../agent/types.ts';
import { allSettled } from '../base/abort.ts';
import { crashPoint } from '../base/crashPoint.ts';
import { HrunError, messageOf } from '../base/errors.ts';
import { exists } from '../base/exists.ts';
import { parseVmId } from '../base/ids.ts';
import type { PhaseClock } from '../base/phases.ts';
import { adoptGuestVm, type GuestVm } from '../pool/guestVm.ts';
import { endProcess } from '../sys/endProcess.ts';
import type { NetNamespace } from '../sys/netNamespace.ts';
import { mostNicSlots, usualNicSlots } from '../vmm/nicSlots.ts';
import type { TerminalSize } from './attachIo.ts';
import { isBesideDaemon } from './besideDaemon.ts';
import type { CallerFiles } from './callerFiles.ts';
import { defaultVmSize } from './containerConfig.ts';
import { adoptContainerNetworking, openContainerNetworking, tooManyNetworks } from './containerNetworking.ts';
import type { ContainerConfig, ContainerRecord, ContainerState } from './containerRecord.ts';
import { createDistinct } from './createDistinct.ts';
import type { Progress } from './engine.ts';
import { type GuestRoot, guestContainer } from './guestContainer.ts';
import { imageDiskSerial, scratchDiskSerial, shareTag } from './guestDevices.ts';
import { GuestProcess } from './guestProcess.ts';
import { OutputLog } from './outputLog.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';
import { createScratchDisk } from './scratchDisk.ts';
import { adoptShares, openShares } from './shares.ts';
import { ownTenancy, type Tenancy } from './tenancy.ts';
import { holdersOf } from './volumes/holders.ts';
import { openMounts } from './volumes/openMounts.ts';

export const initProcessId = 'init';

export interface LaunchOptions {
  /** Whose files bind mounts are. */
  readonly files: CallerFiles;
  /** A new handle of the network namespace of whoever asks. */
  openNetns(): NetNamespace;
  readonly progress: Progress;
  readonly terminalSize: TerminalSize | undefined;
  readonly phases: PhaseClock;
}

/** A container in its microVM, prepared up to its execve. Disposing takes everything down again. */
export interface PreparedContainer extends AsyncDisposable {
  readonly guest: GuestVm;
  readonly init: GuestProcess;
  readonly log: OutputLog;
  readonly standInPid: number | undefined;
  readonly accelerator: ContainerState['accelerator'];
  readonly tenancy: Tenancy;
}

/**
 * Boots the microVM of a container and has the agent prepare its init process. Where its VM will be is written to the
 * state file first, so that a daemon that dies in the middle leaves nothing that the next one cannot find.
 * @throws HrunError whatever went wrong; nothing is left behind then
 */
export async function prepareContainer(
  record: ContainerRecord,
  deps: RuntimeDeps,
  options: LaunchOptions,
  starting: Partial<ContainerState>,
  signal: AbortSignal,
): Promise<PreparedContainer> {
  const { phases, terminalSize } = options;
  await using undo = new AsyncDisposableStack();
  const log = undo.use(await openContainerLog(record, deps));
  const { connections, ports } = record.config.network;
  const networking = openContainerNetworking(record, deps, options, signal);
  networking.catch(() => {}); // told when it is awaited
  undo.defer(() =>
    networking.then(
      (opened) => opened[Symbol.asyncDispose](),
      () => {},
    ),
  );
  // a port that is in use is told before anything boots; all else takes its time beside the boot
  if (ports.length > 0) await networking;
  const running = undo.use(await openContainerVm(record, deps, options, signal, starting));
  await (await networking).connect(running.guest, signal);
  if (connections.length > 0) phases.end('network');
  const { client } = await running.guest.agent(signal);
  const { names } = await networking;
  const request = guestContainer(record, running.root, terminalSize, names, running.mounts);
  {
    using _filling = await deps.live.fillTurns.take(record.config, signal);
    await createDistinct(running.distinct, (inner) => client.createContainer(request, inner), signal);
  }
  phases.end('rootfs');
  await crashPoint('start.created');
  const init = new GuestProcess(running.guest, record.id, initProcessId);
  const owned = undo.move();
  return {
    guest: running.guest,
    init,
    log,
    standInPid: running.standInPid,
    accelerator: running.accelerator,
    tenancy: ownTenancy(running.guest),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The container of an earlier daemon, still running. @throws HrunError VM_DIED when its VM is gone */
export async function adoptContainer(
  record: ContainerRecord,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<PreparedContainer> {
  const { vm, vmRunDir, standInPid, accelerator } = record.state;
  await using undo = new AsyncDisposableStack();
  // one that cannot be taken over, or does not obey, ends as well
  if (vm !== undefined) undo.defer(() => endProcess({ pid: vm.pid, startTicks: vm.pidStartTicks }, signal));
  const log = undo.use(await openContainerLog(record, deps));
  undo.use(adoptContainerNetworking(record, deps));
  if (vmRunDir !== undefined) undo.defer(() => rm(vmRunDir, { recursive: true, force: true }));
  if (vmRunDir !== undefined && standInPid !== undefined) {
    undo.use(await adoptShares(vmRunDir, standInPid, signal));
  }
  if (vm === undefined)
    throw new HrunError('VM_DIED', `the state of container ${record.name} names no microVM`);
  const { vsockCid, ...known } = vm;
  const vmRecord = { ...known, id: parseVmId(vm.id), ...(vsockCid !== undefined && { vsockCid }) };
  const guest = undo.use(await adoptGuestVm(vmRecord, await deps.vmm(signal), deps.config, signal));
  const init = new GuestProcess(guest, record.id, initProcessId);
  const owned = undo.move();
  const tenancy = ownTenancy(guest);
  return {
    guest,
    init,
    log,
    standInPid,
    accelerator,
    tenancy,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

export interface ContainerVm extends AsyncDisposable {
  readonly guest: GuestVm;
  /** As OpenedGuest.distinct. */
  readonly distinct: Promise<void>;
  readonly root: GuestRoot;
  /** Of binds, volumes, disks and images, for the agent. */
  readonly mounts: readonly MountInit[];
  readonly standInPid: number | undefined;
  readonly accelerator: NonNullable<ContainerState['accelerator']>;
}

/**
 * A microVM with the disks and shares of a container; nothing runs in it yet.
 * @param starting what the state of the container becomes as soon as it is known where its microVM will be
 */
export async function openContainerVm(
  record: ContainerRecord,
  deps: RuntimeDeps,
  { files, progress, phases }: Pick<LaunchOptions, 'files' | 'progress' | 'phases'>,
  signal: AbortSignal,
  starting: Partial<ContainerState> = {},
): Promise<ContainerVm> {
  const { id, config } = record;
  await using undo = new AsyncDisposableStack();
  const holders = (key: string) => holdersOf(key, deps.store.list(), id);
  const mounts = undo.use(await openMounts(record, { ...deps, files, progress, holders }, signal));
  const accelerator = await deps.accelerator(config.accelerator, signal);
  const hasShare = mounts.shares.length > 0;
  const nicSlots = nicSlotsFor(config, hasShare);
  // more network devices than usual have the places of the two disks
  const crowded = nicSlots > usualNicSlots(hasShare);
  const wish = {
    shape: {
      kernelPath: config.kernelPath,
      initramfsPath: config.initramfsPath,
      accelerator,
      vcpus: config.vcpus,
      memoryMiB: config.vmMemoryMiB,
      transport: 'serial' as const,
      kernelParameters: [],
    },
    scope: config.templateScope,
    cold: config.cold,
    // what waits in the pool, or is a template, was made with the jail that the configuration says
    weaker: config.allowWeakerJail !== undefined,
    ...(crowded && { nicSlots }),
    common: isDefaultShape(config, deps),
  };
  const disk = undo.use(
    await deps.images.openDisk(config.imageId, { progress, allowWeakerJail: config.allowWeakerJail }, signal),
  );
  const scratchPath = join(deps.store.directoryOf(id), 'scratch.raw');
  const isNew = !(await exists(scratchPath));
  const anew = isNew && !crowded && config.storageBytes === deps.config.storageBytes;
  const root = anew && {
    root: { image: { id: config.imageId, path: disk.path, fs: disk.fs }, process: likelyProcess(config) },
  };
  const share = hasShare && {
    share: { tag: shareTag, lendable: await isBesideDaemon(files, signal) },
  };
  const reservation = undo.use(await deps.guests.reserve({ ...wish, ...root, ...share }, signal));
  const { runDir } = reservation;
  await allSettled([
    // so that a guest whose daemon dies meanwhile is found
    deps.store.update(id, { ...starting, vmRunDir: runDir, nicSlots }),
    isNew ? makeScratchDisk(scratchPath, config, reservation.scratchPath, deps, signal) : Promise.resolve(),
  ]);
  phases.end('disks');
  await crashPoint('start.reserved');
  const shares = undo.use(
    await openShares(mounts.shares, runDir, files, await deps.shareServer(), reservation.shareHost, signal),
  );
  if (shares !== undefined) phases.end('share');
  const imageDisk = { serial: imageDiskSerial, path: disk.path, readonly: true };
  const scratchDisk = { serial: scratchDiskSerial, path: scratchPath, readonly: false };
  const { guest, distinct } = undo.use(
    await reservation.open(
      {
        ...(!crowded && { imageDisk, scratchDisk }),
        ...(shares && { share: { tag: shareTag, socketPath: shares.socketPath } }),
        hostname: config.hostname,
        ...(config.allowWeakerJail && { allowWeakerJail: config.allowWeakerJail }),
      },
      phases,
      signal,
    ),
  );
  await crashPoint('start.booted');
  if (crowded) for (const one of [imageDisk, scratchDisk]) await guest.vm.plugDisk(one, signal);
  await mounts.plug(guest.vm, signal);
  const owned = undo.move();
  return {
    guest,
    distinct,
    root: { imageSerial: imageDiskSerial, imageFs: disk.fs, scratchSerial: scratchDiskSerial },
    mounts: mounts.mounts,
    standInPid: shares?.pid,
    accelerator,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** @throws HrunError INVALID_ARGUMENT for more than a microVM can have */
function nicSlotsFor({ network }: ContainerConfig, share: boolean): number {
  const most = mostNicSlots(share);
  const wanted = network.connections.length;
  if (wanted <= most) return Math.max(wanted, usualNicSlots(share));
  throw tooManyNetworks(wanted, most);
}

/** What a container gets whose user asked for nothing else. */
function isDefaultShape(config: ContainerRecord['config'], deps: RuntimeDeps): boolean {
  const { vcpus, memoryMiB } = defaultVmSize(deps.config);
  return (
    config.kernelPath === deps.defaults.kernelPath &&
    config.vcpus === vcpus &&
    config.vmMemoryMiB === memoryMiB
  );
}

/** Of a container that says nothing; with a size alone it is one file, as with Docker. */
const defaultLogFiles = 2;

/** The output log of a container: of one that runs, only its watcher may open it. */
export async function openContainerLog(
  record: ContainerRecord,
  deps: Pick<RuntimeDeps, 'store' | 'config' | 'log'>,
): Promise<OutputLog> {
  const { id, config } = record;
  return await OutputLog.open(join(deps.store.directoryOf(id), 'output.log'), {
    maxBytes: config.log?.maxBytes ?? deps.config.logMaxBytes,
    maxFiles: config.log?.maxFiles ?? (config.log?.maxBytes === undefined ? defaultLogFiles : 1),
    onLoss: (cause) =>
      deps.log.warn(
        { container: id, error: messageOf(cause) },
        'output is not logged while there is no room',
      ),
  });
}

/** @param ready one that the guest has already */
export async function makeScratchDisk(
  path: string,
  { storageBytes, autoRemove }: ContainerConfig,
  ready: string | undefined,
  { paths }: RuntimeDeps,
  signal: AbortSignal,
): Promise<void> {
  if (ready !== undefined) return await rename(ready, path);
  await createScratchDisk({ path, sizeBytes: storageBytes, journal: !autoRemove }, paths.cache, signal);
}

/** What the next container of the same image will probably read first, as this one does. */
function likelyProcess({ entrypoint, cmd, env, user }: ContainerConfig): ProcessInit {
  return {
    args: [...entrypoint, ...cmd].slice(0, 1),
    env: env.filter((entry) => entry.startsWith('PATH=')),
    user: user || '0',
  };
}
