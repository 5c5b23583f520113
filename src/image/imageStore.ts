import { renameSync } from 'node:fs';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Damage, damageError, reasonOf } from '../base/damage.ts';
import { HrunError, isHrunError, messageOf } from '../base/errors.ts';
import type { Digest } from '../base/ids.ts';
import type { Log } from '../base/log.ts';
import { Mutex } from '../base/mutex.ts';
import { printable } from '../base/text.ts';
import { type ImageConfig, maxConfigBytes, parseImageConfig } from '../oci/imageConfig.ts';
import { BlobStore } from './blobStore.ts';
import { chainIdOf } from './chain.ts';
import { type ImageRecord, readIndex, writeIndex } from './imageIndex.ts';
import { shortDigest } from './progress.ts';
import { canonicalName, parseReference, type Reference } from './reference.ts';

/** An image whose blobs are all here. */
export interface Image extends ImageRecord {
  readonly config: ImageConfig;
  /** Names its disk. */
  readonly chainId: Digest;
  /** Bytes of config and layers as stored. */
  readonly sizeBytes: number;
}

export interface ImageStoreDeps {
  /** `$HRUN_ROOT/images` */
  readonly directory: string;
  readonly log: Pick<Log, 'warn'>;
  readonly nowMs: () => number;
  /** Names of the containers that need an image, stopped ones included. */
  readonly containersOf: (imageId: Digest) => readonly string[];
}

export interface Removal {
  /** Canonical names. */
  readonly untagged: readonly string[];
  readonly deleted: readonly Digest[];
  readonly reclaimedBytes: number;
}

/**
 * All images of this host and the disks made of them. One daemon owns the directory. The index is changed by one at a
 * time and on disk before it is true here; blobs and disks that it no longer refers to are swept after a removal.
 */
export class ImageStore {
  readonly blobs: BlobStore;
  readonly #deps: ImageStoreDeps;
  readonly #changes = new Mutex();
  readonly #leases = new Map<Digest, number>();
  #known: ReadonlyMap<Digest, Image> = new Map();
  #damage: Damage | undefined;

  private constructor(deps: ImageStoreDeps, blobs: BlobStore) {
    this.#deps = deps;
    this.blobs = blobs;
  }

  /**
   * Removes what a crash left half-made. An image whose config cannot be read is left out, with a warning. With a damaged
   * index every use of images is STATE_DAMAGED, until `ready` finds one that can be read.
   */
  static async open(deps: ImageStoreDeps): Promise<ImageStore> {
    await mkdir(join(deps.directory, 'disks'), { recursive: true, mode: 0o700 });
    const store = new ImageStore(deps, await BlobStore.open(deps.directory, deps.nowMs()));
    await store.#readIndex();
    return store;
  }

  /** The index, while it cannot be read. */
  get damages(): readonly Damage[] {
    return this.#damage === undefined ? [] : [this.#damage];
  }

  /** Reads a damaged index again: somebody may have put it right. @throws HrunError STATE_DAMAGED */
  async ready(signal: AbortSignal): Promise<void> {
    if (this.#damage === undefined) return;
    using _turn = await this.#changes.lock(signal);
    if (this.damages.length > 0) await this.#readIndex();
    this.#refuseDamage();
  }

  async #readIndex(): Promise<void> {
    const { directory, log } = this.#deps;
    const path = join(directory, 'index.json');
    try {
      const images = new Map<Digest, Image>();
      for (const record of await readIndex(path)) {
        const image = await loadImage(this.blobs, record).catch((cause: unknown) => {
          if (!isHrunError(cause)) throw cause;
          log.warn({ image: record.id, names: record.names }, `left out an image: ${messageOf(cause)}`);
        });
        if (image !== undefined) images.set(record.id, image);
      }
      this.#known = images;
      this.#damage = undefined;
    } catch (cause) {
      const remedy = 'restore it, or move it away and get the images again';
      this.#damage = { kind: 'image index', name: '', path, reason: reasonOf(cause), remedy };
    }
  }

  get #images(): ReadonlyMap<Digest, Image> {
    this.#refuseDamage();
    return this.#known;
  }

  #refuseDamage(): void {
    if (this.#damage !== undefined) throw damageError(this.#damage);
  }

  /** Where the disk of a chain of layers is, if it is there. */
  diskPathOf(chainId: Digest): string {
    return join(this.#deps.directory, 'disks', `${chainId.slice('sha256:'.length)}.ext4`);
  }

  /** Newest first. */
  list(): readonly Image[] {
    return [...this.#images.values()].sort((a, b) => b.storedAt.localeCompare(a.storedAt));
  }

  /**
   * By reference, by id, or by the start of an id. A name goes before an id that looks the same.
   * @throws HrunError INVALID_ARGUMENT for what is neither, or for a prefix of several ids
   */
  find(text: string): Image | undefined {
    const hex = /^(?:sha256:)?([0-9a-f]{1,64})$/.exec(text)?.[1];
    const whole = hex?.length === 64 || text.startsWith('sha256:');
    const named = whole ? undefined : this.#findByReference(parseReference(text));
    if (named !== undefined || hex === undefined) return named;
    const matches = [...this.#images.values()].filter(({ id }) => id.startsWith(`sha256:${hex}`));
    if (matches.length > 1) {
      throw new HrunError('INVALID_ARGUMENT', `"${text}" is the start of ${matches.length} image ids`, {
        hint: `give more digits: ${matches
          .slice(0, 4)
          .map(({ id }) => shortDigest(id))
          .join(', ')}`,
      });
    }
    return matches[0];
  }

  /** As `find`. @throws HrunError IMAGE_UNKNOWN */
  get(text: string): Image {
    const image = this.find(text);
    if (image !== undefined) return image;
    throw new HrunError('IMAGE_UNKNOWN', `no image "${printable(text)}" is here`, {
      hint: `get it with: hrun pull ${printable(text)}`,
    });
  }

  /** The image of a container, by full id. @throws HrunError IMAGE_UNKNOWN */
  byId(id: Digest): Image {
    const image = this.#images.get(id);
    if (image !== undefined) return image;
    throw new HrunError('IMAGE_UNKNOWN', `no image ${id} is here`);
  }

  /**
   * Keeps an image and its disk from being removed until disposed: for the time between choosing an image and the
   * container being on record.
   */
  lease(id: Digest): Disposable {
    this.byId(id);
    this.#leases.set(id, (this.#leases.get(id) ?? 0) + 1);
    const stack = new DisposableStack();
    stack.defer(() => {
      const left = (this.#leases.get(id) ?? 1) - 1;
      if (left === 0) this.#leases.delete(id);
      else this.#leases.set(id, left);
    });
    return stack;
  }

  /**
   * Records an image whose blobs are stored and held, or gives more names to one that is here already (equal ids have
   * equal content). Its names are taken away from other images.
   */
  async add(
    record: Omit<ImageRecord, 'storedAt' | 'names' | 'repoDigests'>,
    names: { readonly tags: readonly Reference[]; readonly digests: readonly Reference[] },
    signal: AbortSignal,
  ): Promise<Image> {
    const tags = names.tags.map(canonicalName);
    const digests = names.digests.map(canonicalName);
    return await this.#change(signal, async (images) => {
      const old = images.get(record.id);
      const image = await loadImage(this.blobs, {
        ...(old ?? { ...record, storedAt: new Date(this.#deps.nowMs()).toISOString() }),
        names: sorted([...(old?.names ?? []), ...tags]),
        repoDigests: sorted([...(old?.repoDigests ?? []), ...digests]),
      });
      takeNames(images, tags);
      images.set(image.id, image);
      return image;
    });
  }

  /** Gives an image one more name. @throws HrunError IMAGE_UNKNOWN, INVALID_ARGUMENT */
  async tag(text: string, newName: string, signal: AbortSignal): Promise<Image> {
    const reference = parseReference(newName);
    if (reference.digest !== undefined) {
      throw new HrunError('INVALID_ARGUMENT', `"${newName}" has a digest, which nobody can choose`);
    }
    return await this.#change(signal, async (images) => {
      const { id } = this.get(text);
      const name = canonicalName(reference);
      takeNames(images, [name]);
      const image = images.get(id) ?? this.byId(id);
      const tagged = { ...image, names: sorted([...image.names, name]) };
      images.set(id, tagged);
      return tagged;
    });
  }

  /**
   * By name: takes the name away, and the image with its last name. By id: the image with all its names, if it has
   * only one (or `force`). An image that a container needs loses at most its names, and only with `force`.
   * @throws HrunError IMAGE_UNKNOWN, IMAGE_IN_USE
   */
  async remove(text: string, options: { readonly force: boolean }, signal: AbortSignal): Promise<Removal> {
    const taken = await this.#change(signal, async (images) => {
      const image = this.get(text);
      const going = this.#namesMeant(image, text, options.force);
      const names = image.names.filter((name) => !going.includes(name));
      const users = this.#usersOf(image.id);
      const last = names.length === 0;
      if (last && users.length > 0 && !(options.force && going.length > 0)) throw inUse(image, users);
      if (last && users.length === 0) images.delete(image.id);
      else images.set(image.id, { ...image, names });
      return { untagged: going, deleted: last && users.length === 0 ? [image.id] : [] };
    });
    return { ...taken, reclaimedBytes: await this.#sweep({ partial: false }, signal) };
  }

  /** Removes images without a name, with `all` every one that no container needs, and unfinished downloads. */
  async prune(options: { readonly all: boolean }, signal: AbortSignal): Promise<Removal> {
    const taken = await this.#change(signal, async (images) => {
      const going = [...images.values()].filter(
        ({ id, names }) => (options.all || names.length === 0) && this.#usersOf(id).length === 0,
      );
      for (const { id } of going) images.delete(id);
      return { untagged: going.flatMap(({ names }) => names), deleted: going.map(({ id }) => id) };
    });
    return { ...taken, reclaimedBytes: await this.#sweep({ partial: true }, signal) };
  }

  /** Removes blobs and disks that nothing refers to: what a failed load has stored, for one; with `partial` unfinished downloads too. */
  async collect(options: { readonly partial: boolean }, signal: AbortSignal): Promise<number> {
    return await this.#sweep(options, signal);
  }

  #findByReference(reference: Reference): Image | undefined {
    const images = [...this.#images.values()];
    if (reference.digest === undefined) {
      const name = canonicalName(reference);
      return images.find(({ names }) => names.includes(name));
    }
    const name = canonicalName({ ...reference, tag: undefined });
    return images.find(({ repoDigests }) => repoDigests.includes(name));
  }

  #namesMeant(image: Image, text: string, force: boolean): readonly string[] {
    if (isIdOf(image, text)) {
      if (image.names.length > 1 && !force) {
        throw new HrunError(
          'IMAGE_IN_USE',
          `image ${shortDigest(image.id)} has ${image.names.length} names`,
          {
            hint: `remove them one by one, or use --force: ${image.names.join(', ')}`,
          },
        );
      }
      return image.names;
    }
    const reference = parseReference(text);
    // A digest is no name of its own: it means the image.
    return reference.digest === undefined ? [canonicalName(reference)] : image.names;
  }

  #usersOf(id: Digest): readonly string[] {
    const containers = this.#deps.containersOf(id);
    return this.#leases.has(id) ? [...containers, 'an operation under way'] : containers;
  }

  async #change<T>(signal: AbortSignal, change: (images: Map<Digest, Image>) => Promise<T>): Promise<T> {
    using _turn = await this.#changes.lock(signal);
    const images = new Map(this.#images);
    const result = await change(images);
    const records = [...images.values()].map(
      ({ config: _c, chainId: _i, sizeBytes: _s, ...record }) => record,
    );
    await writeIndex(join(this.#deps.directory, 'index.json'), records);
    this.#known = images;
    return result;
  }

  async #sweep(options: { readonly partial: boolean }, signal: AbortSignal): Promise<number> {
    using _turn = await this.#changes.lock(signal);
    const images = [...this.#images.values()];
    const referenced = new Set(
      images.flatMap(({ id, manifestDigest, layers }) => [
        id,
        manifestDigest,
        ...layers.map(({ digest }) => digest),
      ]),
    );
    const blobBytes = await this.blobs.sweep(referenced, options);
    return (
      blobBytes + (await this.#sweepDisks(new Set(images.map(({ chainId }) => this.diskPathOf(chainId)))))
    );
  }

  async #sweepDisks(referenced: ReadonlySet<string>): Promise<number> {
    const directory = join(this.#deps.directory, 'disks');
    let reclaimedBytes = 0;
    for (const name of await readdir(directory)) {
      const path = join(directory, name);
      if (referenced.has(path)) continue;
      const { blocks } = await stat(path);
      const away = this.blobs.newTemporaryPath();
      renameSync(path, away);
      await rm(away, { recursive: true, force: true });
      reclaimedBytes += blocks * 512;
    }
    return reclaimedBytes;
  }
}

async function loadImage(blobs: BlobStore, record: ImageRecord): Promise<Image> {
  const subject = `the config of image ${record.names[0] ?? shortDigest(record.id)}`;
  const config = parseImageConfig(await blobs.read(record.id, maxConfigBytes, subject), subject);
  const chainId = chainIdOf(config.diffIds);
  const sizeBytes = record.layers.reduce((sum, { size }) => sum + size, record.configSize);
  return { ...record, config, chainId, sizeBytes };
}

/** A name means one image: whoever had it loses it. */
function takeNames(images: Map<Digest, Image>, taken: readonly string[]): void {
  for (const [id, image] of images) {
    const names = image.names.filter((name) => !taken.includes(name));
    if (names.length !== image.names.length) images.set(id, { ...image, names });
  }
}

function isIdOf({ id, names }: Image, text: string): boolean {
  const hex = /^(?:sha256:)?([0-9a-f]{1,64})$/.exec(text)?.[1];
  if (hex === undefined || !id.startsWith(`sha256:${hex}`)) return false;
  return (
    text.startsWith('sha256:') || hex.length === 64 || !names.includes(canonicalName(parseReference(text)))
  );
}

function inUse(image: Image, users: readonly string[]): HrunError {
  const more = users.length > 5 ? ` and ${users.length - 5} more` : '';
  const shown = users.slice(0, 5).join(', ') + more;
  return new HrunError(
    'IMAGE_IN_USE',
    `image ${image.names[0] ?? shortDigest(image.id)} is needed by ${shown}`,
    { hint: 'remove the containers first: hrun rm' },
  );
}

function sorted(names: readonly string[]): readonly string[] {
  return [...new Set(names)].sort();
}
