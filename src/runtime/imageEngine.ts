import { join } from 'node:path';
import { errnoOf, HrunError, isHrunError } from '../base/errors.ts';
import { parseDigest } from '../base/ids.ts';
import type { JailStep } from '../base/jailSteps.ts';
import type { Unpacker } from '../image/imageDisk.ts';
import type { Image } from '../image/imageStore.ts';
import type { Images } from '../image/images.ts';
import { checkPlatform, hostPlatform, type Platform } from '../image/platform.ts';
import { familiarName, parseReference } from '../image/reference.ts';
import { saveImages } from '../image/save.ts';
import { imageDetails, imageHistory, imageRows } from '../image/views.ts';
import type { ContainerImages } from './containerImages.ts';
import type { ContainerStore } from './containerStore.ts';
import type { Caller, ImageEngine, LoadSource, PruneReport, PullRequest, RemovedImage } from './engine.ts';
import type { EventSink } from './eventLog.ts';
import { layoutOfCaller } from './layoutOfCaller.ts';
import type { Platform as RequestedPlatform } from './runRequest.ts';

const maxDockerConfigBytes = 1024 * 1024;

export interface ImageEngineDeps {
  readonly images: Images;
  readonly containers: Pick<ContainerStore, 'list' | 'refuseUnknownUsers'>;
  readonly events: EventSink;
  /** Hosts that need no https. */
  readonly insecureRegistries: readonly string[];
  /** Ends what is kept ready for containers of an image that is gone. */
  forget(imageId: string): Promise<void>;
}

/** What the image verbs mean. */
export function imageEngine(deps: ImageEngineDeps): ImageEngine {
  const { images } = deps;
  const { store } = images;
  const tell = (action: string, id: string, name: string) => tellOfImage(deps, action, id, name);

  async function get(text: string, signal: AbortSignal): Promise<Image> {
    return (await images.find(text, signal)) ?? store.get(text);
  }

  return {
    async list(signal) {
      await store.ready(signal);
      const used = new Map<string, number>();
      for (const { config } of deps.containers.list()) {
        used.set(config.imageId, (used.get(config.imageId) ?? 0) + 1);
      }
      return store
        .list()
        .flatMap((image) => imageRows(image).map((row) => ({ ...row, containers: used.get(image.id) ?? 0 })));
    },
    inspect: async (image, signal) => imageDetails(await get(image, signal)),
    history: async (image, signal) => imageHistory(await get(image, signal)),
    async pull(request, caller, signal) {
      const { reference, digest, upToDate } = await pullFor(deps, request, caller, signal);
      return { reference, digest, upToDate };
    },
    async load(source, caller, signal) {
      const { progress } = caller;
      const loaded = await images.load({ ...loadSource(source, caller), progress }, signal);
      for (const { id } of loaded) tell('load', id, id);
      return loaded.flatMap(({ id, names }) =>
        names.length === 0
          ? [{ id }]
          : names.map((name) => ({ id, reference: familiarName(parseReference(name)) })),
      );
    },
    async import({ source, reference, message, changes, platform }, caller, signal) {
      const image = await images.import(
        {
          source,
          reference,
          message,
          changes,
          ...(platform && { platform: imagePlatform(platform) }),
          onBytes: byteProgress(source, caller),
        },
        signal,
      );
      tell('import', image.id, image.id);
      return image.id;
    },
    async *save({ images: wanted }, signal) {
      const ids: string[] = [];
      for (const name of wanted) ids.push((await get(name, signal)).id);
      yield* saveImages(store, wanted, signal);
      for (const id of new Set(ids)) tell('save', id, id);
    },
    async tag(image, newName, signal) {
      const { id } = await get(image, signal);
      await store.tag(image, newName, signal);
      tell('tag', id, familiarName(parseReference(newName)));
    },
    async remove(image, options, signal) {
      const { id } = await get(image, signal);
      const removed = await store.remove(image, options, signal);
      await afterRemoval(deps, removed, id);
      return removed;
    },
    async prune(options, signal): Promise<PruneReport> {
      await store.ready(signal);
      deps.containers.refuseUnknownUsers('prune images');
      const report = await store.prune(options, signal);
      await afterRemoval(deps, report, undefined);
      const attributes = { reclaimed: String(report.reclaimedBytes) };
      deps.events.record({ type: 'image', action: 'prune', id: '', attributes });
      return report;
    },
  };
}

function tellOfImage({ events }: ImageEngineDeps, action: string, id: string, name: string): void {
  events.record({ type: 'image', action, id, attributes: { name } });
}

/** @param id of the one image that all names were of */
async function afterRemoval(
  deps: ImageEngineDeps,
  removed: RemovedImage,
  id: string | undefined,
): Promise<void> {
  for (const name of removed.untagged) tellOfImage(deps, 'untag', id ?? name, id ?? name);
  for (const gone of removed.deleted) {
    tellOfImage(deps, 'delete', gone, gone);
    await deps.forget(gone);
  }
}

/** The images as the container verbs need them. */
export function containerImages(
  deps: ImageEngineDeps & { unpackerFor(allowWeakerJail: readonly JailStep[]): Unpacker },
): ContainerImages {
  const { images } = deps;
  return {
    async resolve(request, caller, signal) {
      const known = request.pull === 'always' ? undefined : await images.find(request.image, signal);
      const image = known ?? (await pullMissing(deps, request, caller, signal));
      const platform = request.platform === undefined ? hostPlatform() : imagePlatform(request.platform);
      checkPlatform(image.config, platform, request.image);
      return { id: image.id, config: imageDetails(image).config };
    },
    async openDisk(imageId, { progress, allowWeakerJail = [] }, signal) {
      await images.store.ready(signal);
      const image = images.store.byId(parseDigest(imageId));
      using lease = new DisposableStack();
      lease.use(images.store.lease(image.id));
      const { path, fsType } = await images.disks.ensure(
        image,
        { unpacker: deps.unpackerFor(allowWeakerJail), progress },
        signal,
      );
      const owned = lease.move();
      return { path, fs: fsType, [Symbol.dispose]: () => owned.dispose() };
    },
  };
}

async function pullMissing(
  deps: ImageEngineDeps,
  { image: reference, pull, platform, insecure }: Parameters<ContainerImages['resolve']>[0],
  caller: Caller,
  signal: AbortSignal,
): Promise<Image> {
  if (pull === 'never') {
    throw new HrunError('IMAGE_UNKNOWN', `no image "${reference}" is here`, {
      hint: `get it with: hrun pull ${reference}`,
    });
  }
  if (pull === 'missing') caller.progress.message(`Unable to find image '${reference}' locally`);
  const { image } = await pullFor(
    deps,
    { reference, insecure, ...(platform && { platform }) },
    caller,
    signal,
  );
  return image;
}

async function pullFor(deps: ImageEngineDeps, request: PullRequest, caller: Caller, signal: AbortSignal) {
  const { reference, platform, insecure } = request;
  const { domain } = parseReference(reference);
  const pulled = await deps.images.pull(
    {
      reference,
      ...(platform && { platform: imagePlatform(platform) }),
      insecure: insecure || deps.insecureRegistries.includes(domain),
      dockerConfig: await dockerConfigOf(caller, signal),
      environment: caller.environment,
      progress: caller.progress,
    },
    signal,
  );
  const name = familiarName(parseReference(reference));
  tellOfImage(deps, 'pull', name, name.replace(/(?::[^:/]+|@.*)$/, ''));
  return pulled;
}

async function dockerConfigOf(caller: Caller, signal: AbortSignal): Promise<string | undefined> {
  const home = caller.environment.get('HOME');
  const directory =
    caller.environment.get('DOCKER_CONFIG') ?? (home === undefined ? undefined : join(home, '.docker'));
  if (directory === undefined) return undefined;
  try {
    return (
      await caller.files.readFile(join(directory, 'config.json'), maxDockerConfigBytes, signal)
    ).toString();
  } catch (error) {
    const missing = isHrunError(error, 'HAND_FAILED') && errnoOf(error.cause) === 'ENOENT';
    if (missing) return undefined;
    throw error;
  }
}

function imagePlatform({ os, architecture, variant }: RequestedPlatform): Platform {
  if (os !== 'linux') throw new HrunError('PLATFORM_MISMATCH', `guests run linux, not ${os}`);
  return { os, architecture, variant: variant ?? '' };
}

function loadSource(source: LoadSource, caller: Caller) {
  if (source.kind === 'directory') {
    return { source: { kind: 'layout' as const, reader: layoutOfCaller(caller.files, source.path) } };
  }
  const { name, bytes } = source;
  return { source: { kind: 'archive' as const, name, bytes }, onBytes: byteProgress(source, caller) };
}

function byteProgress(source: LoadSource & { kind: 'stream' }, caller: Caller): (bytes: number) => void {
  const total = source.sizeBytes === undefined ? {} : { total: source.sizeBytes };
  return (current) => caller.progress.part(source.name, 'Loading', { current, ...total, unit: 'bytes' });
}
