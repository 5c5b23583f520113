import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import type { MountInit } from '../../agent/types.ts';
import { HrunError, isHrunError, messageOf } from '../../base/errors.ts';
import type { MicroVm, OpenDisk } from '../../vmm/microVm.ts';
import type { CallerFiles, StandInRequest } from '../callerFiles.ts';
import type { ContainerImages } from '../containerImages.ts';
import type { ContainerRecord } from '../containerRecord.ts';
import type { Progress } from '../engine.ts';
import { shareTag } from '../guestDevices.ts';
import { checkQcow2, qcow2HeaderBytes } from './qcow2.ts';
import type { VolumeStore } from './volumeStore.ts';

/** What a container has besides its root, found and opened, before there is a microVM for it. */
export interface OpenMounts extends Disposable {
  /** For the share server. */
  readonly shares: StandInRequest['shares'];
  /** For the agent, once the shares are there and the disks are plugged. */
  readonly mounts: readonly MountInit[];
  /** Serial numbers of the disks. */
  readonly serials: readonly string[];
  /**
   * Gives the disks to the microVM, which from then on holds their locks.
   * @throws HrunError DISK_IN_USE
   */
  plug(vm: Pick<MicroVm, 'plugOpenDisk'>, signal: AbortSignal): Promise<void>;
}

export interface OpenMountsDeps {
  readonly volumes: VolumeStore;
  readonly images: Pick<ContainerImages, 'openDisk'>;
  readonly files: CallerFiles;
  readonly progress: Progress;
  /** Names of the containers that have this disk or volume mounted now, other than the one it is for. */
  holders(key: string): readonly string[];
  /** Put before the serial numbers of disks, which nothing else in the microVM may have. */
  readonly serialPrefix?: string;
}

interface FoundDisk {
  /** As errors name it. */
  readonly subject: string;
  /** Equal for mounts of one disk, which is plugged once. */
  readonly key: string;
  readonly serial: string;
  readonly format: OpenDisk['format'];
  readonly readonly: boolean;
  /** @param plugged the disk as it is plugged: with another number, or writable, when there are several mounts of it */
  mount(plugged: { readonly serial: string; readonly readonly: boolean }): MountInit;
  open(
    readonly: boolean,
    signal: AbortSignal,
  ): Promise<{ readonly fd: number; readonly kind: OpenDisk['kind'] } & Disposable>;
}

interface Found {
  readonly shares: StandInRequest['shares'];
  readonly disks: readonly FoundDisk[];
  /** Of the shares. */
  readonly mounts: readonly MountInit[];
}

/**
 * Finds and opens what a container is to have mounted: binds, volumes (made if missing), disks and images.
 * @throws HrunError HAND_FAILED, INVALID_ARGUMENT, DISK_FULL, IMAGE_UNKNOWN, … naming what cannot be had
 */
export async function openMounts(
  { config }: ContainerRecord,
  deps: OpenMountsDeps,
  signal: AbortSignal,
): Promise<OpenMounts> {
  using undo = new DisposableStack();
  const parts = [
    bindShares(config),
    await volumeMounts(config, deps, signal),
    userDisks(config, deps),
    await imageDisks(config, deps, undo, signal),
  ];
  const disks = mergeDisks(
    parts.flatMap((part) => part.disks),
    deps.serialPrefix ?? '',
  );
  const files = undo.use(new DisposableStack());
  const opened: { readonly found: FoundDisk; readonly disk: OpenDisk }[] = [];
  for (const { found } of disks) {
    const { fd, kind } = files.use(await found.open(found.readonly, signal));
    const { serial, format, readonly, subject } = found;
    const mostBytes = format === 'qcow2' ? checkQcow2(startOf(fd), subject) : fstatSync(fd).size;
    opened.push({ found, disk: { serial, fd, kind, format, readonly, mostBytes } });
  }
  const owned = undo.move();
  return {
    shares: parts.flatMap(({ shares }) => shares),
    mounts: [...parts.flatMap(({ mounts }) => mounts), ...disks.flatMap(({ mounts }) => mounts)],
    serials: disks.map(({ found }) => found.serial),
    async plug(vm, until) {
      for (const { found, disk } of opened) {
        await vm.plugOpenDisk(disk, until).catch((cause: unknown) => {
          throw isHrunError(cause, 'DISK_IN_USE') ? inUse(found, deps.holders(found.key), cause) : cause;
        });
      }
      // the lock belongs to the open file: it must end with the microVM
      files.dispose();
    },
    [Symbol.dispose]: () => owned.dispose(),
  };
}

function bindShares({ binds }: ContainerRecord['config']): Found {
  return {
    disks: [],
    shares: binds.map(({ source, readonly, create }, index) => ({
      name: String(index),
      path: source,
      readonly,
      create,
    })),
    mounts: binds.map(({ destination, readonly, options }, index) => ({
      destination,
      options: [readonly ? 'ro' : 'rw', ...options, 'rbind', 'rprivate'],
      source: { case: 'share', value: { tag: shareTag, path: String(index) } },
    })),
  };
}

async function volumeMounts(
  { namedVolumes }: ContainerRecord['config'],
  { volumes }: OpenMountsDeps,
  signal: AbortSignal,
): Promise<Found> {
  const shares: StandInRequest['shares'][number][] = [];
  const disks: FoundDisk[] = [];
  const mounts: MountInit[] = [];
  for (const [index, wish] of namedVolumes.entries()) {
    const { name, destination, readonly, options } = wish;
    const volume = volumes.get(name) ?? (await volumes.ensure({ ...wish, labels: {} }, signal));
    const path = volumes.contentOf(volume);
    const common = {
      destination,
      options: [readonly ? 'ro' : 'rw', ...options, 'rprivate'],
      // what is read-only on the host cannot be filled
      populate: !wish.nocopy && !readonly,
    };
    if (volume.driver === 'dir') {
      const share = `volume-${index}`;
      shares.push({ name: share, path, readonly, create: false });
      mounts.push({ ...common, source: { case: 'share', value: { tag: shareTag, path: share } } });
      continue;
    }
    const serial = `volume-${index}`;
    const key = volumeKey(name);
    const subject = `the volume "${name}"`;
    const open: FoundDisk['open'] = async (ro) => openOwn(path, ro);
    const mount: FoundDisk['mount'] = (plugged) => ({
      ...common,
      source: { case: 'disk', value: { ...plugged, fs: 'ext4', grow: true } },
    });
    disks.push({ subject, key, serial, format: 'raw', readonly, mount, open });
  }
  return { shares, disks, mounts };
}

function userDisks({ disks }: ContainerRecord['config'], { files }: OpenMountsDeps): Found {
  return {
    shares: [],
    mounts: [],
    disks: disks.map(({ source, destination, readonly, fs = '', options }, index) => ({
      subject: `the disk ${source}`,
      key: diskKey(source),
      serial: `disk-${index}`,
      // by its name alone: what is in it may have been written by a guest
      format: source.endsWith('.qcow2') ? 'qcow2' : 'raw',
      readonly,
      mount: (plugged) => ({
        destination,
        options: [readonly ? 'ro' : 'rw', ...options, 'rprivate'],
        source: { case: 'disk', value: { ...plugged, fs } },
      }),
      open: (ro, signal) => files.openDescriptor(source, { readonly: ro }, signal),
    })),
  };
}

async function imageDisks(
  { imageMounts, allowWeakerJail }: ContainerRecord['config'],
  { images, progress }: OpenMountsDeps,
  undo: DisposableStack,
  signal: AbortSignal,
): Promise<Found> {
  const disks: FoundDisk[] = [];
  for (const [index, { image, imageId, destination }] of imageMounts.entries()) {
    const { path, fs } = undo.use(await images.openDisk(imageId, { progress, allowWeakerJail }, signal));
    const serial = `image-${index}`;
    const subject = `the disk of the image ${image}`;
    const open: FoundDisk['open'] = async () => openOwn(path, true);
    const mount: FoundDisk['mount'] = (plugged) => ({
      destination,
      options: ['ro', 'rprivate'],
      source: { case: 'disk', value: { ...plugged, fs } },
    });
    disks.push({ subject, key: imageId, serial, format: 'raw', readonly: true, mount, open });
  }
  return { shares: [], disks, mounts: [] };
}

/** One of each, writable if any mount of it is. */
function mergeDisks(
  all: readonly FoundDisk[],
  serialPrefix: string,
): readonly { readonly found: FoundDisk; readonly mounts: readonly MountInit[] }[] {
  return [...Map.groupBy(all, ({ key }) => key).values()].flatMap((same) => {
    const [first] = same;
    if (first === undefined) return [];
    const named = { ...first, serial: `${serialPrefix}${first.serial}` };
    const found = { ...named, readonly: same.every(({ readonly }) => readonly) };
    const { serial, readonly } = found;
    return [{ found, mounts: same.map((disk) => disk.mount({ serial, readonly })) }];
  });
}

/** A file of the daemon's own. */
function openOwn(
  path: string,
  readonly: boolean,
): { readonly fd: number; readonly kind: 'file' } & Disposable {
  try {
    const fd = openSync(path, (readonly ? constants.O_RDONLY : constants.O_RDWR) | constants.O_NOFOLLOW);
    return { fd, kind: 'file', [Symbol.dispose]: () => closeSync(fd) };
  } catch (cause) {
    throw new HrunError('INTERNAL', `cannot open ${path}: ${messageOf(cause)}`, { cause });
  }
}

function startOf(fd: number): Buffer {
  const start = Buffer.alloc(qcow2HeaderBytes);
  return start.subarray(0, readSync(fd, start, 0, start.length, 0));
}

function inUse({ subject, readonly }: FoundDisk, holders: readonly string[], cause: unknown): HrunError {
  const by = holders.length === 0 ? 'another microVM' : `container ${holders.join(', ')}`;
  return new HrunError('DISK_IN_USE', `${subject} is in use by ${by}`, {
    cause,
    hint: readonly
      ? 'it cannot be read while another writes to it'
      : 'it has one writer at a time, and no reader beside it',
  });
}

export function volumeKey(name: string): string {
  return `volume:${name}`;
}

export function diskKey(source: string): string {
  return `disk:${source}`;
}
