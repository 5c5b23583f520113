import { open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crashPoint } from '../base/crashPoint.ts';
import { errnoOf, isHrunError } from '../base/errors.ts';
import { exists } from '../base/exists.ts';
import { createFlights, type Flights } from '../base/flights.ts';
import type { Digest } from '../base/ids.ts';
import { formatSize } from '../base/units.ts';
import { copySparse } from '../sys/sparseCopy.ts';
import { chainIds } from './chain.ts';
import { diskFull, explainDiskFull, type FreeBytes } from './diskFull.ts';
import { makeExt4 } from './ext4.ts';
import type { Image, ImageStore } from './imageStore.ts';
import { type LayerExtent, startPlainLayers } from './plainLayers.ts';
import { type ImageProgress, shortDigest } from './progress.ts';

export interface UnpackRequest {
  /** Names the image in errors. */
  readonly subject: string;
  /** Uncompressed layer tars at the extents; has its final size from the start. */
  readonly sourcePath: string;
  /** ext4, possibly with the layers below in it. */
  readonly targetPath: string;
  /** In order; each comes true when it may be read, while later ones are still decompressed. */
  readonly layers: readonly Promise<LayerExtent>[];
  readonly onProgress: (progress: UnpackProgress) => void;
}

interface UnpackProgress {
  /** Into `layers`. */
  readonly layerIndex: number;
  readonly layerBytes: number;
  readonly bytesRead: number;
  readonly entries: number;
}

/**
 * Unpacks layers in order onto the file system of the target, away from the host (in a microVM): whiteouts applied,
 * owners, modes, xattrs and devices as they should be. When it is done everything has been synced and let go of.
 */
export interface Unpacker {
  /** Those with another one share no work: who is refused by one may be served by the other. */
  readonly trust?: string;
  unpack(request: UnpackRequest, signal: AbortSignal): Promise<void>;
}

export interface ImageDisk {
  readonly path: string;
  readonly chainId: Digest;
  readonly fsType: 'ext4';
}

export interface ImageDisksDeps {
  readonly store: ImageStore;
  readonly freeBytes: FreeBytes;
  /** Size of every image's file system; sparse, so generosity costs nothing. What does not fit is refused. */
  readonly diskBytes: number;
  readonly maxLayerBytes: number;
}

/** Makes the read-only disks that containers of an image start from: one for each chain of layers, made once. */
export class ImageDisks {
  readonly #deps: ImageDisksDeps;
  readonly #flights: Flights<void, (progress: ImageProgress) => void> = createFlights();

  constructor(deps: ImageDisksDeps) {
    this.#deps = deps;
  }

  /**
   * The disk of an image; when it is there already, this is one stat(2). Several who ask at once share the work. The
   * caller holds a lease of the image for as long as it needs the disk and no container is on record.
   * @throws HrunError LAYER_CORRUPT, DISK_FULL, IMAGE_UNKNOWN, or what `unpacker` throws; nothing is left behind
   */
  async ensure(
    image: Image,
    { unpacker, progress }: { readonly unpacker: Unpacker; readonly progress: ImageProgress },
    signal: AbortSignal,
  ): Promise<ImageDisk> {
    const { store } = this.#deps;
    const disk: ImageDisk = { path: store.diskPathOf(image.chainId), chainId: image.chainId, fsType: 'ext4' };
    if (await exists(disk.path)) return disk;
    using _lease = store.lease(image.id);
    await this.#flights.join(
      `${image.chainId} ${unpacker.trust ?? ''}`,
      async (notify, shared) => {
        if (await exists(disk.path)) return;
        const everybody: ImageProgress = {
          message: (text) => notify((one) => one.message(text)),
          part: (id, status, amount) => notify((one) => one.part(id, status, amount)),
        };
        await buildDisk(this.#deps, image, { unpacker, progress: everybody }, shared);
      },
      (tell) => tell(progress),
      signal,
    );
    return disk;
  }
}

/** Less than this is a full disk: what little is left are holes in which nothing fits. */
const fullBytes = 1024 * 1024;
/** Images are many small files. */
const bytesPerInode = 8192;

interface BuildOptions {
  readonly unpacker: Unpacker;
  readonly progress: ImageProgress;
}

async function buildDisk(
  deps: ImageDisksDeps,
  image: Image,
  options: BuildOptions,
  signal: AbortSignal,
): Promise<void> {
  const below = await longestChainBelow(deps.store, image);
  const built = below.count > 0 && (await buildFrom(below, deps, image, options, signal));
  if (!built) await buildFrom({ count: 0, path: undefined }, deps, image, options, signal);
}

interface ChainBelow {
  /** Layers that are in it already. */
  readonly count: number;
  readonly path: string | undefined;
}

async function longestChainBelow(store: ImageStore, { config }: Image): Promise<ChainBelow> {
  const chain = chainIds(config.diffIds);
  for (let count = chain.length - 1; count > 0; count -= 1) {
    const id = chain[count - 1];
    const path = id === undefined ? undefined : store.diskPathOf(id);
    if (path !== undefined && (await exists(path))) return { count, path };
  }
  return { count: 0, path: undefined };
}

/** False when the chain below is gone meanwhile, or its disk smaller than disks are now. */
async function buildFrom(
  below: ChainBelow,
  deps: ImageDisksDeps,
  image: Image,
  { unpacker, progress }: BuildOptions,
  signal: AbortSignal,
): Promise<boolean> {
  const { store, freeBytes } = deps;
  const path = store.diskPathOf(image.chainId);
  const subject = image.names[0] ?? shortDigest(image.id);
  const layers = image.layers.slice(below.count);
  await checkSpace(
    deps,
    layers.reduce((sum, { size }) => sum + size, 0),
    subject,
    store.blobs.directory,
  );
  await using undo = new AsyncDisposableStack();
  const temporary = () => {
    const temporaryPath = store.blobs.newTemporaryPath();
    undo.defer(() => rm(temporaryPath, { force: true }));
    return temporaryPath;
  };
  const sourcePath = temporary();
  const targetPath = temporary();
  try {
    await makeSparse(sourcePath, deps.diskBytes);
    const plain = {
      layers,
      subject,
      path: sourcePath,
      maxLayerBytes: deps.maxLayerBytes,
      maxBytes: deps.diskBytes,
      freeBytes,
      progress,
    };
    await using decompressing = startPlainLayers(store.blobs, plain, signal);
    if (below.path === undefined) {
      const shape = { sizeBytes: deps.diskBytes, label: 'hrun-image', bytesPerInode };
      await makeExt4(targetPath, shape, signal);
    } else if (!(await copyBelow(below.path, targetPath, deps.diskBytes, signal))) {
      return false;
    }
    if (layers.length > 0) {
      const { extents } = decompressing;
      const onProgress = (at: UnpackProgress) => tell(progress, layers[at.layerIndex]?.digest, at);
      await crashPoint('unpack.made');
      await unpacker.unpack({ subject, sourcePath, targetPath, layers: extents, onProgress }, signal);
    }
    for (const { digest } of layers) progress.part(shortDigest(digest), 'Unpacked');
    await crashPoint('unpack.unpacked');
    await publish(targetPath, path);
    await crashPoint('unpack.published');
    return true;
  } catch (cause) {
    signal.throwIfAborted();
    const { directory } = store.blobs;
    // The guest cannot tell why its disk fails.
    if (isHrunError(cause, 'AGENT_REFUSED') && (await freeBytes(directory)) < fullBytes) {
      throw diskFull(`${directory} is full: no room to unpack ${subject}`, cause);
    }
    throw explainDiskFull(cause, directory, `to unpack ${subject}`);
  }
}

async function makeSparse(path: string, sizeBytes: number): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  await file.truncate(sizeBytes);
}

async function copyBelow(from: string, to: string, diskBytes: number, signal: AbortSignal): Promise<boolean> {
  try {
    if ((await stat(from)).size < diskBytes) return false;
    await copySparse(from, to, signal);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

/** From here on the disk is whole, whatever happens. */
async function publish(from: string, to: string): Promise<void> {
  {
    await using file = await open(from, 'r+');
    await file.sync();
  }
  await rename(from, to);
  await using directory = await open(dirname(to), 'r');
  await directory.sync();
}

/** Layers are never smaller unpacked than compressed, and are there twice for a while: as tars and as files. */
async function checkSpace(
  { freeBytes }: ImageDisksDeps,
  compressedBytes: number,
  subject: string,
  directory: string,
): Promise<void> {
  const free = await freeBytes(directory);
  if (free >= 2 * compressedBytes) return;
  throw diskFull(
    `unpacking ${subject} needs at least ${formatSize(2 * compressedBytes)} in ${directory}, where ${formatSize(free)} are free`,
  );
}

function tell(
  progress: ImageProgress,
  digest: Digest | undefined,
  { bytesRead, layerBytes: total }: UnpackProgress,
): void {
  if (digest === undefined) return;
  const current = Math.min(bytesRead, total);
  progress.part(shortDigest(digest), 'Unpacking', { current, total, unit: 'bytes' });
}
