import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Change } from '../base/change.ts';
import { crashPoint } from '../base/crashPoint.ts';
import { type Damage, damageError, damageOf, describeDamage, hintOf } from '../base/damage.ts';
import { errnoOf, HrunError } from '../base/errors.ts';
import { type ContainerId, isContainerId } from '../base/ids.ts';
import { KeyedMutex } from '../base/mutex.ts';
import { parseStateText, writeStateFile } from '../base/stateFile.ts';
import {
  type ContainerConfig,
  type ContainerRecord,
  ContainerRecordSchema,
  type ContainerState,
  mayBecome,
} from './containerRecord.ts';

/** A change of state is short and is never given up. */
const never = new AbortController().signal;

type OnChange = (before: ContainerRecord | undefined, after: ContainerRecord | undefined) => void;

/**
 * All containers of one daemon. What is on disk is what is true: a record is written before memory says so.
 * Directories: `<root>/containers/<id>/` holds `container.json`, `output.log` and `scratch.raw`.
 */
export class ContainerStore {
  readonly #directory: string;
  readonly #records = new Map<ContainerId, ContainerRecord>();
  readonly #damages = new Map<ContainerId, Damage>();
  /** Names promised to containers whose record is still being written. */
  readonly #reserved = new Set<string>();
  readonly #turns = new KeyedMutex<ContainerId>();
  readonly #changed = new Change();
  readonly #onChange: OnChange;

  private constructor(directory: string, onChange: OnChange) {
    this.#directory = directory;
    this.#onChange = onChange;
  }

  /**
   * Reads every record below `directory`, and removes what a dead daemon left half made or half deleted. One that cannot be
   * read is among the `damages`; a file that is nobody's is left alone.
   * @param onChange told of every change once it is on disk
   */
  static async open(directory: string, onChange: OnChange = () => {}): Promise<ContainerStore> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const store = new ContainerStore(directory, onChange);
    for (const entry of await readdir(directory)) {
      if (entry.endsWith('.removing')) {
        await rm(join(directory, entry), { recursive: true, force: true });
        continue;
      }
      if (!isContainerId(entry)) continue;
      try {
        const record = await readRecord(join(directory, entry), entry);
        if (record === undefined) await rm(join(directory, entry), { recursive: true, force: true });
        else store.#records.set(record.id, record);
      } catch (cause) {
        store.#damages.set(entry, damageOf('container', entry, recordPath(join(directory, entry)), cause));
      }
    }
    return store;
  }

  /** Directory of a container's files. */
  directoryOf(id: ContainerId): string {
    return join(this.#directory, id);
  }

  list(): ContainerRecord[] {
    return [...this.#records.values()];
  }

  /** Containers that are there and cannot be read. */
  get damages(): readonly Damage[] {
    return [...this.#damages.values()];
  }

  /**
   * Says that what only the user can be sure of is not to be decided while a container is unreadable, which may have it.
   * @param doing what, for the message
   * @throws HrunError STATE_DAMAGED
   */
  refuseUnknownUsers(doing: string): void {
    const [damage] = this.damages;
    if (damage === undefined) return;
    throw new HrunError('STATE_DAMAGED', `${doing}: ${describeDamage(damage)}: it may use any of them`, {
      hint: damage.remedy,
    });
  }

  get(id: ContainerId): ContainerRecord | undefined {
    return this.#records.get(id);
  }

  /** @throws HrunError NOT_FOUND */
  known(id: ContainerId): ContainerRecord {
    const record = this.#records.get(id);
    if (record === undefined) throw new HrunError('NOT_FOUND', `No such container: ${id.slice(0, 12)}`);
    return record;
  }

  isNameTaken(name: string): boolean {
    return this.#reserved.has(name) || this.list().some((record) => record.name === name);
  }

  /** @throws HrunError ALREADY_EXISTS naming the holder */
  refuseTakenName(name: string): void {
    if (!this.isNameTaken(name)) return;
    const holder = this.list().find((record) => record.name === name);
    const by = holder === undefined ? 'another container' : `container ${holder.id.slice(0, 12)}`;
    throw new HrunError('ALREADY_EXISTS', `the container name "${name}" is already in use by ${by}`, {
      hint: 'remove or rename that container, or choose another name',
    });
  }

  /** Settles when any container is added, changed or removed. @throws the reason of `signal` */
  nextChange(signal: AbortSignal): Promise<void> {
    return this.#changed.next(signal);
  }

  /**
   * The container that a user means: by name, full id, or a prefix of an id that fits only one.
   * @throws HrunError NOT_FOUND, INVALID_ARGUMENT (prefix fits several) or STATE_DAMAGED
   */
  find(reference: string): ContainerRecord {
    const id = this.#idOf(reference);
    const damage = this.#damages.get(id);
    if (damage !== undefined) throw damageError(damage);
    return this.known(id);
  }

  /** The damaged container that a user means, by its id or a prefix. @throws as `find`, but for STATE_DAMAGED */
  findDamaged(reference: string): ContainerId | undefined {
    const id = this.#idOf(reference);
    return this.#damages.has(id) ? id : undefined;
  }

  #idOf(reference: string): ContainerId {
    const exact = this.list().find(({ id, name }) => name === reference || id === reference);
    if (exact !== undefined) return exact.id;
    const ids = [...this.#records.keys(), ...this.#damages.keys()];
    const matches = /^[0-9a-f]+$/.test(reference) ? ids.filter((id) => id.startsWith(reference)) : [];
    const [only, second] = matches;
    if (only === undefined) {
      throw new HrunError('NOT_FOUND', `No such container: ${reference}`, hintOf(this.damages));
    }
    if (second !== undefined) {
      throw new HrunError(
        'INVALID_ARGUMENT',
        `"${reference}" is the beginning of ${matches.length} container ids`,
      );
    }
    return only;
  }

  /**
   * Makes the directory and the first record of a container.
   * @throws HrunError ALREADY_EXISTS when the name is taken
   */
  async add(record: ContainerRecord): Promise<void> {
    const holder = this.list().find(({ name }) => name === record.name);
    if (holder !== undefined || this.#reserved.has(record.name)) {
      const by = holder === undefined ? 'another container' : `container ${holder.id.slice(0, 12)}`;
      throw new HrunError(
        'ALREADY_EXISTS',
        `the container name "${record.name}" is already in use by ${by}`,
        {
          hint: `remove or rename that container, or choose another --name`,
        },
      );
    }
    this.#reserved.add(record.name);
    try {
      await mkdir(this.directoryOf(record.id), { mode: 0o700 });
      await this.#write(record, !record.config.autoRemove);
    } catch (cause) {
      await rm(this.directoryOf(record.id), { recursive: true, force: true });
      throw cause;
    } finally {
      this.#reserved.delete(record.name);
    }
  }

  /**
   * Changes the state of a container, on disk first.
   * @throws HrunError WRONG_STATE when the status may not become the new one
   */
  async update(id: ContainerId, change: Partial<ContainerState>): Promise<ContainerRecord> {
    using _turn = await this.#turns.lock(id, never);
    const old = this.known(id);
    const status = change.status ?? old.state.status;
    if (status !== old.state.status && !mayBecome(old.state.status, status)) {
      throw new HrunError(
        'WRONG_STATE',
        `container ${old.name} is ${old.state.status}, it cannot become ${status}`,
      );
    }
    // A crash of the host ends every microVM. What must be known after it is that a container ran, and how it ended;
    // a container that is removed at its end has nothing to tell.
    const matters = status === 'running' || status === 'exited';
    return await this.#write(
      { ...old, state: { ...old.state, ...change } },
      matters && !old.config.autoRemove,
    );
  }

  /** Changes what a container is to be from its next start on. */
  async configure(
    id: ContainerId,
    change: (config: ContainerConfig) => ContainerConfig,
  ): Promise<ContainerRecord> {
    using _turn = await this.#turns.lock(id, never);
    const old = this.known(id);
    return await this.#write({ ...old, config: change(old.config) }, !old.config.autoRemove);
  }

  /** @throws HrunError ALREADY_EXISTS when the name is taken */
  async rename(id: ContainerId, name: string): Promise<void> {
    using _turn = await this.#turns.lock(id, never);
    const old = this.known(id);
    this.refuseTakenName(name);
    this.#reserved.add(name);
    try {
      await this.#write({ ...old, name }, true);
    } finally {
      this.#reserved.delete(name);
    }
  }

  /** Forgets a container and deletes its files; an interrupted deletion is finished by the next `open`. */
  async remove(id: ContainerId): Promise<void> {
    using _turn = await this.#turns.lock(id, never);
    const known = this.known(id);
    const doomed = `${this.directoryOf(id)}.removing`;
    await rename(this.directoryOf(id), doomed);
    await crashPoint('remove.renamed');
    this.#records.delete(id);
    this.#onChange(known, undefined);
    this.#changed.notify();
    await rm(doomed, { recursive: true, force: true });
  }

  /** Deletes what is left of a damaged container. */
  async removeDamaged(id: ContainerId): Promise<void> {
    using _turn = await this.#turns.lock(id, never);
    if (!this.#damages.has(id)) return;
    const doomed = `${this.directoryOf(id)}.removing`;
    await rename(this.directoryOf(id), doomed);
    this.#damages.delete(id);
    await rm(doomed, { recursive: true, force: true });
  }

  async #write(record: ContainerRecord, durable: boolean): Promise<ContainerRecord> {
    const path = recordPath(this.directoryOf(record.id));
    await writeStateFile(path, record, { durable });
    const before = this.#records.get(record.id);
    this.#records.set(record.id, record);
    this.#onChange(before, record);
    this.#changed.notify();
    return record;
  }
}

function recordPath(directory: string): string {
  return join(directory, 'container.json');
}

/** Undefined when there is none. @throws whatever is wrong with it */
async function readRecord(directory: string, id: ContainerId): Promise<ContainerRecord | undefined> {
  try {
    const text = await readFile(recordPath(directory), 'utf8');
    // the host crashed before the first record reached its disk: nothing of it is there, or zeroes
    if (/^\0*$/.test(text)) return undefined;
    const record = ContainerRecordSchema.parse(parseStateText(text));
    if (record.id !== id) throw new HrunError('STATE_DAMAGED', 'it is of another container');
    return { ...record, id };
  } catch (cause) {
    // made before anything else of a container: without anything else it was never finished
    if (errnoOf(cause) === 'ENOENT' && !(await hasFiles(directory))) return undefined;
    throw cause;
  }
}

/** Whether there is more in it than a temporary file. */
async function hasFiles(directory: string): Promise<boolean> {
  return (await readdir(directory)).some((name) => !name.startsWith('.'));
}
