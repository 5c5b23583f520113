import { newContainerId } from '../../base/ids.ts';
import { noNetwork } from '../../network/containerNetwork.ts';
import { mergeContainerConfig } from '../containerConfig.ts';
import { type ContainerRecord, initialState } from '../containerRecord.ts';
import { copyIn, copyOut } from '../copyFiles.ts';
import type { Caller } from '../engine.ts';
import { removeContainer } from '../removeContainer.ts';
import type { RuntimeDeps } from '../runtimeDeps.ts';
import type { VolumeDefinition } from './volumeDefinition.ts';
import type { WriteBytes } from './volumeViews.ts';

/** It is always there, and nothing of it is run. */
const image = 'busybox';
const place = '/volume';

/** Writes a tar of what a volume holds. The guest reads it: the host parses no file system of a guest. */
export async function exportVolume(
  volume: VolumeDefinition,
  write: WriteBytes,
  caller: Caller,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<void> {
  await using carrier = await carrierOf(volume, true, caller, deps, signal);
  const { record } = carrier;
  const request = { container: record.id, path: place, followLink: false, archive: true, contentOnly: true };
  await copyOut(record, { ...request, target: { kind: 'stream', write } }, caller, deps, signal);
}

/** Extracts a tar into a volume, whose owners and modes are the tar's. */
export async function importVolume(
  volume: VolumeDefinition,
  bytes: AsyncIterable<Buffer>,
  caller: Caller,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<void> {
  await using carrier = await carrierOf(volume, false, caller, deps, signal);
  const { record } = carrier;
  const request = { container: record.id, directory: place, archive: true };
  await copyIn(record, { ...request, source: { kind: 'stream', bytes } }, caller, deps, signal);
}

/** A container that never starts, through which files are copied. A daemon that dies meanwhile leaves it to the next one. */
async function carrierOf(
  { name, driver }: VolumeDefinition,
  readonly: boolean,
  caller: Caller,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<{ readonly record: ContainerRecord } & AsyncDisposable> {
  const pull = 'missing';
  const found = await deps.images.resolve({ image, pull, insecure: false }, caller, signal);
  const id = newContainerId();
  const mount = { name, driver, destination: place, readonly, nocopy: true, options: [], labels: {} };
  const request = {
    image,
    command: ['true'],
    openStdin: false,
    terminal: false,
    autoRemove: true,
    init: false,
    environment: [],
    labels: {},
    binds: [],
    anonymousVolumes: [],
    namedVolumes: [mount],
    disks: [],
    imageMounts: [],
    tmpfs: [],
    readonlyRootfs: false,
    capAdd: [],
    capDrop: [],
    ulimits: [],
    sysctls: {},
    cold: false,
    network: { ...noNetwork, none: true, publishAll: false, expose: [] },
    pull,
    insecure: false,
  } as const;
  const record: ContainerRecord = {
    version: 1,
    id,
    name: `volume-${id.slice(0, 12)}`,
    createdAt: new Date().toISOString(),
    config: mergeContainerConfig(id, request, found, { ...deps.config, ...deps.defaults }),
    state: { ...initialState, onFailedStart: 'remove' },
  };
  await deps.store.add(record);
  return { record, [Symbol.asyncDispose]: () => removeContainer(id, deps, { withVolumes: false }) };
}
