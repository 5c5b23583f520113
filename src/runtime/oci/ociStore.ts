import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomically } from '../../base/atomicFile.ts';
import { Change } from '../../base/change.ts';
import { crashPoint } from '../../base/crashPoint.ts';
import { reasonOf } from '../../base/damage.ts';
import { errnoOf, HrunError } from '../../base/errors.ts';
import { type ContainerId, isContainerId } from '../../base/ids.ts';
import { KeyedMutex } from '../../base/mutex.ts';
import { parseStateText, writeStateFile } from '../../base/stateFile.ts';
import { mayBecome, type OciRecord, OciRecordSchema } from './ociRecord.ts';
import { alreadyExists, doesNotExist } from './runcErrors.ts';

/** A change of state is short and is never given up. */
const never = new AbortController().signal;

type OnChange = (before: OciRecord | undefined, after: OciRecord | undefined) => void;

/**
 * All containers of managers. What is on disk is what is true: a record is written before memory says so. They do not
 * survive a reboot, as with runc, so they lie in the run directory: `oci/<id>/{state,config}.json`.
 */
export class OciStore {
  readonly #directory: string;
  readonly #records = new Map<ContainerId, OciRecord>();
  readonly #reserved = new Set<string>();
  readonly #lost: { readonly path: string; readonly reason: string }[] = [];
  readonly #turns = new KeyedMutex<ContainerId>();
  readonly #change = new Change();
  readonly #onChange: OnChange;

  private constructor(directory: string, onChange: OnChange) {
    this.#directory = directory;
    this.#onChange = onChange;
  }

  /**
   * Reads every record below `directory`, and removes what a dead daemon left half made or half deleted. A container whose
   * record cannot be read is `lost`: nobody could tell its manager anything of it any more, so it is to end. Its files are
   * kept, as `<id>.damaged`, until the host boots again.
   * @param onChange told of every change once it is on disk
   */
  static async open(directory: string, onChange: OnChange = () => {}): Promise<OciStore> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const store = new OciStore(directory, onChange);
    for (const entry of await readdir(directory)) {
      const path = join(directory, entry);
      if (entry.endsWith('.removing')) await rm(path, { recursive: true, force: true });
      if (!isContainerId(entry)) continue;
      try {
        const record = await readRecord(path, entry);
        if (record === undefined) await rm(path, { recursive: true, force: true });
        else store.#records.set(record.id, record);
      } catch (cause) {
        const kept = `${path}.damaged`;
        await rm(kept, { recursive: true, force: true });
        await rename(path, kept);
        store.#lost.push({ path: kept, reason: reasonOf(cause) });
      }
    }
    return store;
  }

  /** Containers that an earlier daemon had and this one cannot read. */
  get lost(): readonly { readonly path: string; readonly reason: string }[] {
    return this.#lost;
  }

  list(): OciRecord[] {
    return [...this.#records.values()];
  }

  get(id: ContainerId): OciRecord | undefined {
    return this.#records.get(id);
  }

  /** @throws HrunError NOT_FOUND with runc's text */
  find(scope: string, name: string): OciRecord {
    const record = this.lookUp(scope, name);
    if (record === undefined) throw doesNotExist();
    return record;
  }

  lookUp(scope: string, name: string): OciRecord | undefined {
    return this.list().find((record) => record.scope === scope && record.name === name);
  }

  /**
   * Keeps a name for a container that is being made, until disposed.
   * @throws HrunError ALREADY_EXISTS with runc's text
   */
  reserve(scope: string, name: string): Disposable {
    const key = `${scope}\0${name}`;
    if (this.#reserved.has(key) || this.lookUp(scope, name) !== undefined) throw alreadyExists();
    this.#reserved.add(key);
    return { [Symbol.dispose]: () => void this.#reserved.delete(key) };
  }

  async add(record: OciRecord, configJson: Uint8Array): Promise<void> {
    const directory = this.#directoryOf(record.id);
    await mkdir(directory, { mode: 0o700 });
    try {
      await writeFileAtomically(join(directory, 'config.json'), configJson);
      await this.#write(record);
    } catch (cause) {
      await rm(directory, { recursive: true, force: true });
      throw cause;
    }
  }

  /** config.json as it was at `create`. */
  async config(id: ContainerId): Promise<Buffer> {
    return await readFile(join(this.#directoryOf(id), 'config.json'));
  }

  /**
   * Changes a record, on disk first; `change` sees the newest.
   * @throws HrunError WRONG_STATE when the status may not become the new one, NOT_FOUND when it is gone
   */
  async update(
    id: ContainerId,
    change: Partial<OciRecord> | ((record: OciRecord) => Partial<OciRecord>),
  ): Promise<OciRecord> {
    using _turn = await this.#turns.lock(id, never);
    const old = this.#records.get(id);
    if (old === undefined) throw doesNotExist();
    const changed = { ...old, ...(typeof change === 'function' ? change(old) : change) };
    if (changed.status !== old.status && !mayBecome(old.status, changed.status)) {
      throw new HrunError(
        'WRONG_STATE',
        `container ${old.name} is ${old.status}, it cannot become ${changed.status}`,
      );
    }
    return await this.#write(changed);
  }

  /** Forgets a container; an interrupted removal is finished by the next `open`. */
  async remove(id: ContainerId): Promise<void> {
    using _turn = await this.#turns.lock(id, never);
    const old = this.#records.get(id);
    if (old === undefined) return;
    this.#records.delete(id);
    const doomed = `${this.#directoryOf(id)}.removing`;
    await rename(this.#directoryOf(id), doomed);
    await crashPoint('oci.delete.renamed');
    await rm(doomed, { recursive: true, force: true });
    this.#onChange(old, undefined);
    this.#change.notify();
  }

  /** Settles when any container is changed or removed. @throws the reason of `signal` */
  nextChange(signal: AbortSignal): Promise<void> {
    return this.#change.next(signal);
  }

  #directoryOf(id: ContainerId): string {
    return join(this.#directory, id);
  }

  async #write(record: OciRecord): Promise<OciRecord> {
    await writeStateFile(join(this.#directoryOf(record.id), 'state.json'), record);
    const old = this.#records.get(record.id);
    this.#records.set(record.id, record);
    this.#onChange(old, record);
    this.#change.notify();
    return record;
  }
}

/** Undefined when there is none. @throws whatever is wrong with it */
async function readRecord(directory: string, id: ContainerId): Promise<OciRecord | undefined> {
  try {
    const text = await readFile(join(directory, 'state.json'), 'utf8');
    const record = OciRecordSchema.parse(parseStateText(text));
    if (record.id !== id) throw new HrunError('STATE_DAMAGED', 'it is of another container');
    return { ...record, id };
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return undefined;
    throw cause;
  }
}
