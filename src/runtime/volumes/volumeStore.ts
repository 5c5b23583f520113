import { randomBytes } from 'node:crypto';
import { chmod, lstat, mkdir, readdir, readFile, rename, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { type Damage, damageError, damageOf } from '../../base/damage.ts';
import { HrunError } from '../../base/errors.ts';
import { KeyedMutex } from '../../base/mutex.ts';
import { privateDirectory } from '../../base/paths.ts';
import { parseStateText, writeStateFile } from '../../base/stateFile.ts';
import { diskFull, freeBytesOf } from '../../image/diskFull.ts';
import { makeExt4 } from '../../image/ext4.ts';
import { type VolumeDefinition, VolumeDefinitionSchema, type VolumeDriver } from './volumeDefinition.ts';

export interface VolumeRequest {
  readonly name: string;
  readonly driver: VolumeDriver;
  readonly labels: Readonly<Record<string, string>>;
  readonly anonymous: boolean;
  /** Of a disk; undefined: as big as a container's writable disk. */
  readonly sizeBytes?: number;
}

const journalMiB = 16;
/** A file system with its journal, and some room. */
const minimumBytes = 64 * 1024 * 1024;
const blockBytes = 4096;
/** Less than this is a full disk: what little is left are holes in which nothing fits. */
const fullBytes = 1024 * 1024;
/** A change of a volume is short and is never given up. */
const never = new AbortController().signal;

/**
 * All named volumes of one daemon: `<root>/volumes/<name>/` holds `volume.json` and what the volume keeps, the directory
 * `_data` or the disk `disk.raw`. What begins with a dot is half made or half deleted.
 */
export class VolumeStore {
  readonly #directory: string;
  readonly #defaultBytes: number;
  readonly #volumes = new Map<string, VolumeDefinition>();
  readonly #damages = new Map<string, Damage>();
  readonly #turns = new KeyedMutex<string>();

  private constructor(directory: string, defaultBytes: number) {
    this.#directory = directory;
    this.#defaultBytes = defaultBytes;
  }

  /**
   * Reads every volume below `directory`, and removes what a dead daemon left half made or half deleted. One that cannot be
   * read is among the `damages`.
   * @param defaultBytes size of a disk of which none is asked for
   */
  static async open(directory: string, defaultBytes: number): Promise<VolumeStore> {
    await privateDirectory(directory);
    const store = new VolumeStore(directory, defaultBytes);
    for (const entry of await readdir(directory)) {
      if (entry.startsWith('.')) {
        await rm(join(directory, entry), { recursive: true, force: true });
        continue;
      }
      const path = join(directory, entry, 'volume.json');
      try {
        store.#volumes.set(entry, await readVolume(path, entry));
      } catch (cause) {
        store.#damages.set(entry, damageOf('volume', entry, path, cause));
      }
    }
    return store;
  }

  list(): readonly VolumeDefinition[] {
    return [...this.#volumes.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Volumes that are there and cannot be read. */
  get damages(): readonly Damage[] {
    return [...this.#damages.values()];
  }

  isDamaged(name: string): boolean {
    return this.#damages.has(name);
  }

  get(name: string): VolumeDefinition | undefined {
    return this.#volumes.get(name);
  }

  /** @throws HrunError NOT_FOUND, STATE_DAMAGED */
  find(name: string): VolumeDefinition {
    this.#refuseDamaged(name);
    const volume = this.#volumes.get(name);
    if (volume === undefined) throw new HrunError('NOT_FOUND', `No such volume: ${name}`);
    return volume;
  }

  /** Where the content is: a directory or a raw disk. */
  contentOf({ name, driver }: Pick<VolumeDefinition, 'name' | 'driver'>): string {
    return join(this.#directory, name, driver === 'dir' ? '_data' : 'disk.raw');
  }

  /**
   * The volume of that name, made if there is none.
   * @throws HrunError ALREADY_EXISTS when there is one of another driver or size, INVALID_ARGUMENT for a size that cannot
   *   be, DISK_FULL, STATE_DAMAGED
   */
  async ensure(request: VolumeRequest, signal: AbortSignal): Promise<VolumeDefinition> {
    using _turn = await this.#turns.lock(request.name, signal);
    this.#refuseDamaged(request.name);
    const known = this.#volumes.get(request.name);
    if (known === undefined) return await this.#make(request, signal);
    const resized = request.sizeBytes !== undefined && request.sizeBytes !== known.sizeBytes;
    if (known.driver === request.driver && !resized) return known;
    throw new HrunError('ALREADY_EXISTS', `there is a volume "${known.name}" with other options`, {
      hint: 'remove it first, or choose another name',
    });
  }

  /** Forgets a volume, damaged or not, and deletes what it holds; an interrupted deletion is finished by the next `open`. */
  async remove(name: string): Promise<void> {
    using _turn = await this.#turns.lock(name, never);
    if (!this.isDamaged(name)) this.find(name);
    const doomed = this.#temporaryPath();
    await rename(join(this.#directory, name), doomed);
    this.#volumes.delete(name);
    this.#damages.delete(name);
    await rm(doomed, { recursive: true, force: true });
  }

  /**
   * Makes a disk bigger; its file system grows when it is next mounted.
   * @throws HrunError INVALID_ARGUMENT for a directory, or a size below what it has
   */
  async grow(name: string, sizeBytes: number): Promise<VolumeDefinition> {
    using _turn = await this.#turns.lock(name, never);
    const known = this.find(name);
    if (known.sizeBytes === undefined) {
      throw new HrunError('INVALID_ARGUMENT', `volume ${name} is a directory, which has no size of its own`);
    }
    if (sizeBytes < known.sizeBytes) {
      throw new HrunError('INVALID_ARGUMENT', `volume ${name} cannot shrink below ${known.sizeBytes} bytes`);
    }
    const grown = { ...known, sizeBytes: checkSize(sizeBytes) };
    // the file first: a definition never says more than there is
    await truncate(this.contentOf(known), grown.sizeBytes);
    await writeVolume(join(this.#directory, name), grown);
    this.#volumes.set(name, grown);
    return grown;
  }

  /** Bytes that the content takes on the host. */
  async usedBytes(volume: VolumeDefinition): Promise<number> {
    const path = this.contentOf(volume);
    const paths = volume.driver === 'disk' ? [path] : await readdir(path, { recursive: true });
    const sizes = paths.map(async (entry) => {
      const found = await lstat(volume.driver === 'disk' ? entry : join(path, entry)).catch(() => undefined);
      return found === undefined ? 0 : found.blocks * 512;
    });
    return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
  }

  async #make({ sizeBytes, ...request }: VolumeRequest, signal: AbortSignal): Promise<VolumeDefinition> {
    if (request.driver === 'dir' && sizeBytes !== undefined) {
      throw new HrunError('INVALID_ARGUMENT', 'a volume of the driver dir has no size of its own', {
        hint: 'choose --driver disk',
      });
    }
    const volume: VolumeDefinition = {
      version: 1,
      ...request,
      createdAt: new Date().toISOString(),
      ...(request.driver === 'disk' && { sizeBytes: checkSize(sizeBytes ?? this.#defaultBytes) }),
    };
    const unfinished = this.#temporaryPath();
    try {
      await mkdir(unfinished, { mode: 0o700 });
      if (volume.sizeBytes === undefined) await makeData(join(unfinished, '_data'));
      else {
        const shape = { sizeBytes: volume.sizeBytes, label: 'hrun-volume', journalMiB, keep: true };
        await makeExt4(join(unfinished, 'disk.raw'), shape, signal);
      }
      await writeVolume(unfinished, volume);
      await rename(unfinished, join(this.#directory, volume.name));
    } catch (cause) {
      // before there is room again; mkfs does not tell in a way that could be told apart
      const freeBytes = await freeBytesOf(this.#directory);
      await rm(unfinished, { recursive: true, force: true });
      signal.throwIfAborted();
      if (freeBytes < fullBytes) {
        throw diskFull(`no space is left in ${this.#directory} for the volume ${volume.name}`, cause);
      }
      throw cause;
    }
    this.#volumes.set(volume.name, volume);
    return volume;
  }

  #refuseDamaged(name: string): void {
    const damage = this.#damages.get(name);
    if (damage !== undefined) throw damageError(damage);
  }

  #temporaryPath(): string {
    return join(this.#directory, `.${randomBytes(8).toString('hex')}`);
  }
}

/** Whatever the umask: who is not root in the guest must get in, as with Docker. */
async function makeData(path: string): Promise<void> {
  await mkdir(path);
  await chmod(path, 0o755);
}

async function writeVolume(directory: string, volume: VolumeDefinition): Promise<void> {
  await writeStateFile(join(directory, 'volume.json'), volume);
}

/** @throws whatever is wrong with it */
async function readVolume(path: string, name: string): Promise<VolumeDefinition> {
  const volume = VolumeDefinitionSchema.parse(parseStateText(await readFile(path, 'utf8')));
  if (volume.name !== name) throw new HrunError('STATE_DAMAGED', 'it is of another volume');
  return volume;
}

function checkSize(sizeBytes: number): number {
  if (sizeBytes >= minimumBytes) return Math.ceil(sizeBytes / blockBytes) * blockBytes;
  throw new HrunError('INVALID_ARGUMENT', `${sizeBytes} bytes are too little for a volume`, {
    hint: 'the minimum of --size is 64m',
  });
}
