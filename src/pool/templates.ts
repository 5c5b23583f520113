import { isHrunError } from '../base/errors.ts';
import { createFlights, type Flights } from '../base/flights.ts';
import { KeyedMutex } from '../base/mutex.ts';
import type { TemplateScope } from '../base/templateScope.ts';
import type { VmShape } from '../vmm/microVm.ts';
import { qemuVersion } from '../vmm/qemu/findQemu.ts';
import { type BuildDeps, buildTemplate } from './buildTemplate.ts';
import { templateKey } from './templateKey.ts';
import {
  type LoadedTemplate,
  loadedTemplate,
  type TemplateRecord,
  type TemplateStore,
  unsavedRecord,
} from './templateStore.ts';

/** Each holds its guest's RAM in memory: the ones used longest ago are dropped, and read again when they are needed. */
const maxLoaded = 4;

export interface TemplatesDeps {
  readonly store: TemplateStore;
  build(signal: AbortSignal): Promise<BuildDeps>;
  /** Monotonic clock, nanoseconds. */
  now(): bigint;
}

/** A template in use; disposing ends the use, not the template. */
export interface TemplateLease extends Disposable {
  readonly template: LoadedTemplate;
  /** Whether it had to be made for this use. */
  readonly built: boolean;
}

interface Entry {
  readonly template: LoadedTemplate;
  users: number;
  /** No longer in the table: goes with its last user. */
  dropped: boolean;
}

/** The templates of this daemon, made when they are first asked for. */
export class Templates implements Disposable {
  readonly #deps: TemplatesDeps;
  /** In the order of their last use, latest last. */
  readonly #loaded = new Map<string, Entry>();
  readonly #turns = new KeyedMutex<string>();
  /** Who waits for a template shares its building, also one that fails; `built` is told when it is not from disk. */
  readonly #fetches: Flights<void, 'built'> = createFlights();

  constructor(deps: TemplatesDeps) {
    this.#deps = deps;
  }

  /** Whether a clone of this shape could be had without building anything. */
  async has(key: string): Promise<boolean> {
    return this.#loaded.has(key) || (await this.#deps.store.list()).some((record) => record.key === key);
  }

  async keyOf(shape: VmShape, scope: TemplateScope, signal: AbortSignal): Promise<string> {
    return await templateKey(shape, scope, (await this.#deps.build(signal)).qemuPath, signal);
  }

  /**
   * The template of a shape: from memory, from disk, or built now. Many that ask at once share one building.
   * @throws HrunError what kept it from being built
   */
  async use(key: string, shape: VmShape, scope: TemplateScope, signal: AbortSignal): Promise<TemplateLease> {
    let built = false;
    for (;;) {
      const lease = this.#lease(key, built);
      if (lease !== undefined) return lease;
      await this.#fetches.join(
        key,
        (notify, stop) => this.#fetch(key, shape, scope, () => notify('built'), stop),
        () => {
          built = true;
        },
        signal,
      );
    }
  }

  list(): Promise<TemplateRecord[]> {
    return this.#deps.store.list();
  }

  /** Removes a template from disk and memory; its clones go on. @returns false when there was none */
  async remove(key: string): Promise<boolean> {
    using _turn = await this.#turns.lock(key, new AbortController().signal);
    this.#drop(key);
    return await this.#deps.store.remove(key);
  }

  /** Removes templates that nothing can be cloned from any more, because QEMU, kernel, … have changed; or all. */
  async prune(all: boolean, signal: AbortSignal): Promise<TemplateRecord[]> {
    const removed: TemplateRecord[] = [];
    for (const record of await this.list()) {
      // a file that is gone makes it stale as well
      const key = await this.keyOf(record.shape, record.scope, signal).catch(() => undefined);
      signal.throwIfAborted();
      if ((all || key !== record.key) && (await this.remove(record.key))) removed.push(record);
    }
    return removed;
  }

  [Symbol.dispose](): void {
    for (const key of [...this.#loaded.keys()]) this.#drop(key);
  }

  async #fetch(
    key: string,
    shape: VmShape,
    scope: TemplateScope,
    onBuilt: () => void,
    signal: AbortSignal,
  ): Promise<void> {
    using _turn = await this.#turns.lock(key, signal);
    const stored = await this.#deps.store.load(key, signal);
    this.#keep(key, stored ?? (await this.#build(key, shape, scope, signal)));
    if (stored === undefined) onBuilt();
  }

  async #build(
    key: string,
    shape: VmShape,
    scope: TemplateScope,
    signal: AbortSignal,
  ): Promise<LoadedTemplate> {
    const { store, now } = this.#deps;
    const deps = await this.#deps.build(signal);
    const startedNs = now();
    using undo = new DisposableStack();
    const { ram, state } = await buildTemplate(shape, deps, signal);
    undo.use(ram);
    const facts = {
      key,
      createdAt: new Date().toISOString(),
      buildMs: Math.round(Number(now() - startedNs) / 1e6),
      qemuVersion: await qemuVersion(deps.qemuPath, signal),
      shape: { ...shape, kernelParameters: [...shape.kernelParameters] },
      scope,
    };
    const record = await store.save(facts, ram, state, signal).catch((cause: unknown) => {
      signal.throwIfAborted();
      deps.log.warn(
        { template: key, err: cause },
        'a template could not be written: it lasts as long as this daemon',
      );
      return unsavedRecord(facts);
    });
    deps.log.debug({ template: key, buildMs: record.buildMs }, 'template built');
    undo.move();
    return loadedTemplate(record, ram, state);
  }

  #lease(key: string, built: boolean): TemplateLease | undefined {
    const entry = this.#loaded.get(key);
    if (entry === undefined) return undefined;
    this.#loaded.delete(key);
    this.#loaded.set(key, entry);
    entry.users += 1;
    const release = () => {
      entry.users -= 1;
      if (entry.dropped && entry.users === 0) entry.template[Symbol.dispose]();
    };
    return { template: entry.template, built, [Symbol.dispose]: release };
  }

  #keep(key: string, template: LoadedTemplate): void {
    this.#loaded.set(key, { template, users: 0, dropped: false });
    for (const oldest of [...this.#loaded.keys()].slice(0, -maxLoaded)) this.#drop(oldest);
  }

  #drop(key: string): void {
    const entry = this.#loaded.get(key);
    if (entry === undefined) return;
    this.#loaded.delete(key);
    entry.dropped = true;
    if (entry.users === 0) entry.template[Symbol.dispose]();
  }
}

/** Whether a restore failed in a way that another attempt from the same template would repeat. */
export function blamesTemplate(error: unknown): boolean {
  return (
    isHrunError(error, 'QEMU_FAILED') || isHrunError(error, 'VM_BOOT_FAILED') || isHrunError(error, 'VM_DIED')
  );
}
