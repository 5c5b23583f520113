import { randomBytes } from 'node:crypto';
import { posix } from 'node:path';
import type { ContainerConfig } from './containerRecord.ts';
import type { CreateRequest } from './runRequest.ts';

type Mounts = Pick<ContainerConfig, 'tmpfs' | 'binds' | 'volumes' | 'namedVolumes' | 'disks' | 'imageMounts'>;

/** What a user wishes to be mounted, and where. */
export type MountWishes = Pick<
  CreateRequest,
  'tmpfs' | 'binds' | 'anonymousVolumes' | 'namedVolumes' | 'disks' | 'imageMounts' | 'autoRemove'
>;

/**
 * The mounts of a container: those of the request, and an anonymous volume wherever else its image declares one. A
 * container that is removed at its end has these on its writable disk, every other one as volumes with names of their own.
 * @param imageIds ids of the images of `imageMounts`, in order
 */
export function mergeMounts(
  request: MountWishes,
  imageVolumes: readonly string[],
  imageIds: readonly string[],
): Mounts {
  const own = [request.binds, request.tmpfs, request.namedVolumes, request.disks, request.imageMounts];
  const mounted = new Set(own.flat().map(({ destination }) => destination));
  const anonymous = [...imageVolumes, ...request.anonymousVolumes].map((path) => posix.resolve('/', path));
  const volumes = [...new Set(anonymous)].filter((path) => !mounted.has(path));
  return {
    tmpfs: request.tmpfs.map(({ destination, options }) => ({ destination, options: [...options] })),
    binds: request.binds.map((bind) => ({ ...bind, options: [...bind.options] })),
    volumes: request.autoRemove ? volumes : [],
    namedVolumes: [
      ...request.namedVolumes.map(({ labels: _ofTheVolume, options, ...volume }) => ({
        ...volume,
        driver: volume.driver ?? 'dir',
        options: [...options],
        anonymous: false,
      })),
      ...(request.autoRemove ? [] : volumes.map(anonymousVolume)),
    ],
    disks: request.disks.map(({ options, ...disk }) => ({ ...disk, options: [...options] })),
    imageMounts: request.imageMounts.map((mount, index) => ({ ...mount, imageId: imageIds[index] ?? '' })),
  };
}

/** On a disk: a share would cost each such container a boot. */
function anonymousVolume(destination: string): Mounts['namedVolumes'][number] {
  return {
    name: randomBytes(32).toString('hex'),
    destination,
    driver: 'disk',
    readonly: false,
    nocopy: false,
    options: [],
    anonymous: true,
  };
}
