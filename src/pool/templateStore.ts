import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { errnoOf } from '../base/errors.ts';
import { parseStateText, stateText } from '../base/stateFile.ts';
import { createMemfd, type Memfd, sealMemfd } from '../sys/memfd.ts';
import type { VmTemplate } from '../vmm/microVm.ts';
import { loadRam, storeRam } from './ramImage.ts';

const keyPattern = /^[0-9a-f]{32}$/;

const TemplateRecord = z.object({
  version: z.literal(1),
  key: z.string().regex(keyPattern),
  createdAt: z.string(),
  buildMs: z.number(),
  qemuVersion: z.string(),
  shape: z.object({
    kernelPath: z.string(),
    initramfsPath: z.string(),
    accelerator: z.enum(['kvm', 'tcg']),
    vcpus: z.int().positive(),
    memoryMiB: z.int().positive(),
    transport: z.enum(['serial', 'vsock']),
    kernelParameters: z.array(z.string()),
  }),
  scope: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('host') }),
    z.object({ kind: z.literal('tenant'), name: z.string() }),
  ]),
  ramSha256: z.string(),
  /** What the RAM takes on disk. */
  ramStoredBytes: z.int(),
  stateSha256: z.string(),
});

/** What is known of a stored template. */
export type TemplateRecord = Readonly<z.infer<typeof TemplateRecord>>;
/** What the store itself finds out. */
type Stored = 'version' | 'ramSha256' | 'ramStoredBytes' | 'stateSha256';

/** A template that clones can be made of; disposing gives its memory back once no clone needs it any more. */
export interface LoadedTemplate extends VmTemplate, Disposable {
  readonly record: TemplateRecord;
}

/**
 * Templates on disk: `<directory>/<key>/` with `ram`, `state` and, written last, `template.json`. A directory appears
 * whole by its rename; everything read from it is checked against its hashes.
 */
export class TemplateStore {
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** Removes what a dead daemon left half written. */
  static async open(directory: string): Promise<TemplateStore> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    for (const name of await readdir(directory)) {
      if (!keyPattern.test(name)) await rm(join(directory, name), { recursive: true, force: true });
    }
    return new TemplateStore(directory);
  }

  /** Of every template whose record can be read, newest first. */
  async list(): Promise<TemplateRecord[]> {
    const names = (await readdir(this.#directory)).filter((name) => keyPattern.test(name));
    const records = await Promise.all(names.map((name) => this.#record(name)));
    return records
      .filter((record) => record !== undefined)
      .toSorted((a, b) => b.createdAt.localeCompare(a.createdAt));
  }

  /** @returns undefined when there is none, or it is not whole: it is removed then */
  async load(key: string, signal: AbortSignal): Promise<LoadedTemplate | undefined> {
    const record = await this.#record(key);
    const loaded = record && (await this.#checked(record, signal));
    if (loaded === undefined) await this.remove(key);
    return loaded;
  }

  /** Writes a template; one of the same key is replaced. `ram` stays the caller's. */
  async save(
    facts: Omit<TemplateRecord, Stored>,
    ram: Memfd,
    state: Buffer,
    signal: AbortSignal,
  ): Promise<TemplateRecord> {
    const unfinished = join(this.#directory, `new-${randomBytes(8).toString('hex')}`);
    await using undo = new AsyncDisposableStack();
    undo.defer(() => rm(unfinished, { recursive: true, force: true }));
    await mkdir(unfinished, { mode: 0o700 });
    const { sha256, storedBytes } = await storeRam(
      ram,
      ramBytes(facts.shape),
      join(unfinished, 'ram'),
      signal,
    );
    await writeDurably(join(unfinished, 'state'), state);
    const record: TemplateRecord = {
      version: 1,
      ...facts,
      ramSha256: sha256,
      ramStoredBytes: storedBytes,
      stateSha256: sha256Of(state),
    };
    await writeDurably(join(unfinished, 'template.json'), stateText(JSON.stringify(record)));
    await this.remove(facts.key);
    await rename(unfinished, join(this.#directory, facts.key));
    return record;
  }

  /** @returns false when there was none */
  async remove(key: string): Promise<boolean> {
    if (!keyPattern.test(key)) return false;
    const path = join(this.#directory, key);
    // renamed first: a half-removed template must not be found
    const doomed = join(this.#directory, `old-${randomBytes(8).toString('hex')}`);
    try {
      await rename(path, doomed);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return false;
      throw error;
    }
    await rm(doomed, { recursive: true, force: true });
    return true;
  }

  async #record(key: string): Promise<TemplateRecord | undefined> {
    try {
      const text = await readFile(join(this.#directory, key, 'template.json'), 'utf8');
      const { data } = TemplateRecord.safeParse(parseStateText(text));
      return data?.key === key ? data : undefined;
    } catch (error) {
      if (isDamage(error) || error instanceof SyntaxError) return undefined;
      throw error;
    }
  }

  async #checked(record: TemplateRecord, signal: AbortSignal): Promise<LoadedTemplate | undefined> {
    const directory = join(this.#directory, record.key);
    try {
      const bytes = await readFile(join(directory, 'state'));
      if (sha256Of(bytes) !== record.stateSha256) return undefined;
      const ram = await loadRam(join(directory, 'ram'), ramBytes(record.shape), record.ramSha256, signal);
      return ram && loadedTemplate(record, ram, bytes);
    } catch (error) {
      if (isDamage(error)) return undefined;
      throw error;
    }
  }
}

/** Not a passing lack of something: the files are not what they were, and the template is made again. */
function isDamage(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR', 'EISDIR', 'EIO', 'EUCLEAN'].includes(errnoOf(error) ?? '');
}

/** Of a template that is nowhere but in memory. */
export function unsavedRecord(facts: Omit<TemplateRecord, Stored>): TemplateRecord {
  return { version: 1, ...facts, ramSha256: '', ramStoredBytes: 0, stateSha256: '' };
}

/** A template that clones can be made of, of its parts; it owns `ram`, which is sealed. */
export function loadedTemplate(record: TemplateRecord, ram: Memfd, stateBytes: Uint8Array): LoadedTemplate {
  using undo = new DisposableStack();
  undo.use(ram);
  const state = undo.use(createMemfd('hrun-state'));
  writeFileSync(state.fd, stateBytes);
  sealMemfd(state);
  const owned = undo.move();
  return { record, ramFd: ram.fd, stateFd: state.fd, [Symbol.dispose]: () => owned.dispose() };
}

function ramBytes({ memoryMiB }: { readonly memoryMiB: number }): number {
  return memoryMiB * 1024 * 1024;
}

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

async function writeDurably(path: string, content: string | Uint8Array): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  await file.writeFile(content);
  await file.sync();
}
