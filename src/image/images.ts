import { createReadStream } from 'node:fs';
import { abortable } from '../base/abort.ts';
import { type ErrorCode, HrunError, isHrunError, messageOf } from '../base/errors.ts';
import type { Digest } from '../base/ids.ts';
import type { Log } from '../base/log.ts';
import { Mutex } from '../base/mutex.ts';
import type { FreeBytes } from './diskFull.ts';
import { loadDockerArchive } from './dockerArchive.ts';
import { Downloads } from './download.ts';
import { ImageDisks } from './imageDisk.ts';
import { type Image, ImageStore } from './imageStore.ts';
import { type ImportRequest, importRoot } from './importRoot.ts';
import type { LayoutReader } from './layoutReader.ts';
import { loadOciLayout } from './ociLayout.ts';
import type { Platform } from './platform.ts';
import { type ImageProgress, noProgress } from './progress.ts';
import { type PulledImage, type PullRequest, pullImage } from './pull.ts';
import { canonicalName, parseReference } from './reference.ts';
import { layoutOf, stageArchive } from './stagedArchive.ts';

/** Failures of a pull that meet the next attempt as well, or that only room can mend. */
const hopeless: ReadonlySet<ErrorCode> = new Set([
  'DIGEST_MISMATCH',
  'DISK_FULL',
  'IMAGE_INVALID',
  'PLATFORM_MISMATCH',
]);

export interface ImagesDeps {
  /** `$HRUN_ROOT/images` */
  readonly directory: string;
  readonly log: Pick<Log, 'warn'>;
  readonly nowMs: () => number;
  readonly freeBytes: FreeBytes;
  /** Names of the containers that need an image, stopped ones included. */
  readonly containersOf: (imageId: Digest) => readonly string[];
  readonly platform: Platform;
  /** Archives of images that are there without a registry, by canonical name. */
  readonly builtIn: ReadonlyMap<string, string>;
  readonly diskBytes: number;
  readonly maxLayerBytes: number;
}

export interface LoadRequest {
  readonly source:
    | { readonly kind: 'archive'; readonly name: string; readonly bytes: AsyncIterable<Uint8Array> }
    | { readonly kind: 'layout'; readonly reader: LayoutReader };
  readonly platform?: Platform;
  readonly progress: ImageProgress;
  /** Told how much of an archive was read. */
  readonly onBytes?: (bytes: number) => void;
}

/** All that the engine does with images. Listing, tagging and removing are the store's. */
export class Images {
  readonly store: ImageStore;
  readonly disks: ImageDisks;
  readonly #deps: ImagesDeps;
  readonly #downloads: Downloads;
  readonly #builtInLoads = new Mutex();

  private constructor(deps: ImagesDeps, store: ImageStore) {
    const { freeBytes, diskBytes, maxLayerBytes } = deps;
    this.#deps = deps;
    this.store = store;
    this.#downloads = new Downloads(store.blobs);
    this.disks = new ImageDisks({ store, freeBytes, diskBytes, maxLayerBytes });
  }

  static async open(deps: ImagesDeps): Promise<Images> {
    return new Images(deps, await ImageStore.open(deps));
  }

  /**
   * The image a user means, if it is here; a built-in one is loaded when it is first asked for.
   * @throws HrunError INVALID_ARGUMENT
   */
  async find(text: string, signal: AbortSignal): Promise<Image | undefined> {
    await this.store.ready(signal);
    const found = this.store.find(text);
    if (found !== undefined || /^sha256:|^[0-9a-f]{64}$/.test(text)) return found;
    const path = this.#deps.builtIn.get(canonicalName(parseReference(text)));
    if (path === undefined) return undefined;
    using _turn = await this.#builtInLoads.lock(signal);
    const meanwhile = this.store.find(text);
    if (meanwhile !== undefined) return meanwhile;
    await this.load(
      { source: { kind: 'archive', name: path, bytes: createReadStream(path) }, progress: noProgress },
      signal,
    );
    return this.store.find(text);
  }

  async pull(
    request: Omit<PullRequest, 'platform'> & { platform?: Platform },
    signal: AbortSignal,
  ): Promise<PulledImage> {
    await this.store.ready(signal);
    const { directory, freeBytes, platform } = this.#deps;
    const deps = { store: this.store, downloads: this.#downloads, directory, freeBytes };
    try {
      return await pullImage(deps, { platform, ...request }, signal);
    } catch (error) {
      // What came so far is of use to another attempt, unless that must end in the same way.
      if (isHrunError(error) && hopeless.has(error.code)) {
        await this.#collect({ partial: error.code === 'DISK_FULL' });
      }
      throw error;
    }
  }

  /**
   * Stores the images of an OCI layout or a docker-archive.
   * @throws HrunError IMAGE_INVALID, DIGEST_MISMATCH, PLATFORM_MISMATCH, DISK_FULL
   */
  async load(request: LoadRequest, signal: AbortSignal): Promise<readonly Image[]> {
    await this.store.ready(signal);
    return await this.#tidily(async () => {
      using hold = this.store.blobs.hold();
      const { source, progress } = request;
      const options = { platform: request.platform ?? this.#deps.platform, progress, hold };
      if (source.kind === 'layout') return await loadOciLayout(this.store, source.reader, options, signal);
      const { onBytes = () => {} } = request;
      const input = { ...source, bytes: interruptible(source.bytes, signal) };
      const archive = await stageArchive(this.store.blobs, input, { onBytes, hold }, signal);
      if (archive.find('index.json') !== undefined) {
        return await loadOciLayout(
          this.store,
          layoutOf(archive, this.store.blobs, source.name),
          options,
          signal,
        );
      }
      if (archive.find('manifest.json') !== undefined) {
        return await loadDockerArchive(this.store, archive, source.name, options, signal);
      }
      throw new HrunError('IMAGE_INVALID', `${source.name} has neither index.json nor manifest.json`, {
        hint: 'the tar of a root filesystem goes to "hrun import"',
      });
    });
  }

  /** Makes an image of the tar of a root filesystem. @throws HrunError IMAGE_INVALID, DISK_FULL, INVALID_ARGUMENT */
  async import(
    request: Omit<ImportRequest, 'platform' | 'nowMs'> & { platform?: Platform },
    signal: AbortSignal,
  ): Promise<Image> {
    await this.store.ready(signal);
    const { platform, nowMs } = this.#deps;
    const source = { ...request.source, bytes: interruptible(request.source.bytes, signal) };
    return await this.#tidily(() =>
      importRoot(this.store, { platform, nowMs: nowMs(), ...request, source }, signal),
    );
  }

  /** What an archive brings and no image needs goes at once, also when it is refused. */
  async #tidily<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } finally {
      await this.#collect({ partial: false });
    }
  }

  /** Not with the caller's signal: an aborted command must be tidied up too, and its own error counts. */
  async #collect(options: { readonly partial: boolean }): Promise<void> {
    await this.store.collect(options, new AbortController().signal).catch((error: unknown) => {
      this.#deps.log.warn({ error: messageOf(error) }, 'could not remove unreferenced blobs');
    });
  }
}

/** A source that may stall for ever stops being waited for when `signal` fires. */
async function* interruptible(
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  let done = false;
  try {
    for (;;) {
      const next = await abortable(iterator.next(), signal);
      done = next.done === true;
      if (next.done) return;
      yield next.value;
    }
  } finally {
    // Not awaited: a source that stalls in next() would stall here as well.
    if (!done) void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}
