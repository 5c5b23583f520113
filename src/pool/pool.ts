import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortable, withCancel } from '../base/abort.ts';
import { messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { TemplateScope } from '../base/templateScope.ts';
import type { VmShape } from '../vmm/microVm.ts';
import type { BuildDeps } from './buildTemplate.ts';
import {
  endPooled,
  makeReady,
  type PooledGuest,
  type ReadyGuest,
  type Stock,
  type WithShare,
  whenUseless,
} from './readyGuest.ts';
import type { Templates } from './templates.ts';
import type { ReadyRoot } from './warmGuest.ts';

export interface PoolPolicy {
  /** Clones kept ready for a shape in use; 0: none, every launch restores its own. */
  readonly ready: number;
  /** A shape that nothing was launched of for so long is no longer in use. */
  readonly idleTimeoutMs: number;
  /** How long nothing is launched or made before the next is, so that refilling takes the machine from nobody. */
  readonly refillPauseMs: number;
  /** Private memory that all waiting clones together may take. */
  readonly memoryCeilingBytes: number;
  /** With less of the host's memory available, in percent, the pool is emptied and stays so. */
  readonly minAvailablePercent: number;
}

interface Shelf {
  readonly stock: Stock;
  readonly ready: ReadyGuest[];
  lastUseMs: number;
}

interface Making {
  readonly shelf: Shelf;
  /** Settles when it is made or its remains are gone; never rejects. */
  readonly over: Promise<unknown>;
  stop(): void;
}

export interface PoolDeps {
  readonly templates: Templates;
  readonly log: Pick<Log, 'debug' | 'warn'>;
  build(signal: AbortSignal): Promise<BuildDeps>;
}

export interface PoolStatus {
  readonly policy: PoolPolicy;
  readonly underPressure: boolean;
  readonly shelves: readonly {
    readonly kind: ReturnType<typeof kindOf>;
    readonly vcpus: number;
    readonly memoryMiB: number;
    /** Of the template of clones. */
    readonly key?: string;
    readonly scope?: string;
    /** Absent for bundles. */
    readonly imageId?: string;
    readonly ready: number;
    readonly privateBytes: number;
  }[];
}

/** How often the host's memory and the idle time-outs are looked at, while there is anything in the pool. */
const watchPauseMs = 5000;

/**
 * Guests that wait, warm and paused, for a container. One that was claimed never comes back. Refilling is done when no
 * launch is under way, one clone at a time.
 */
export class Pool implements AsyncDisposable {
  readonly #deps: PoolDeps;
  readonly #shelves = new Map<string, Shelf>();
  readonly #end = new AbortController();
  #policy: PoolPolicy;
  #launches = 0;
  /** When the last launch was over, or the last clone made. */
  #quietSinceMs = 0;
  #underPressure = false;
  #refilling: Promise<void> | undefined;
  /** The clone that is being made. */
  #making: Making | undefined;
  #watching: Promise<void> | undefined;
  /** Makes a refill under way look again at what is wanted. */
  #wanted = Promise.withResolvers<void>();

  constructor(policy: PoolPolicy, deps: PoolDeps) {
    this.#policy = policy;
    this.#deps = deps;
  }

  /**
   * A clone that is ready now with the image of `root`, if there is one; it is the caller's from now on. Either way its
   * shape and image are in use.
   */
  claim(key: string, shape: VmShape, scope: TemplateScope, root: ReadyRoot): PooledGuest | undefined {
    return this.#take({ shape, from: { key, scope }, root });
  }

  /** As `claim`, of those that have a share; without a `root` for a container whose root is in the share. */
  claimServed(shape: VmShape, share: WithShare, root?: ReadyRoot): PooledGuest | undefined {
    return this.#take({ shape, from: share, ...(root && { root }) });
  }

  #take(wanted: Stock): PooledGuest | undefined {
    if (this.#policy.ready === 0 || this.#end.signal.aborted) return undefined;
    const { from, shape, root } = wanted;
    // a template's key stands for its shape
    const name = JSON.stringify(['key' in from ? from.key : { ...from, shape }, root?.image.path]);
    const shelf = this.#shelves.get(name) ?? { stock: wanted, ready: [], lastUseMs: 0 };
    this.#shelves.set(name, shelf);
    if (root !== undefined) shelf.stock.root = root;
    shelf.lastUseMs = performance.now();
    const taken = shelf.ready.shift();
    this.#wake();
    return taken;
  }

  /** Keeps the refill from running beside a launch; disposing lets it go on a pause later. */
  launching(): Disposable {
    this.#launches += 1;
    return {
      [Symbol.dispose]: () => {
        this.#launches -= 1;
        this.#quietSinceMs = performance.now();
        if (this.#launches === 0) this.#wake();
      },
    };
  }

  get policy(): PoolPolicy {
    return this.#policy;
  }

  /** In force at once: what is too many, also while it is being made, is ended before this returns. */
  async setPolicy(policy: PoolPolicy): Promise<void> {
    this.#policy = policy;
    await this.#trim();
    await this.#stopMaking((shelf) => shelf.ready.length >= policy.ready);
    this.#wake();
  }

  status(): PoolStatus {
    return {
      policy: this.#policy,
      underPressure: this.#underPressure,
      shelves: [...this.#shelves.values()].map(({ stock, ready }) => ({
        kind: kindOf(stock),
        vcpus: stock.shape.vcpus,
        memoryMiB: stock.shape.memoryMiB,
        ...('key' in stock.from && {
          key: stock.from.key,
          scope:
            stock.from.scope.kind === 'tenant' ? `tenant=${stock.from.scope.name}` : stock.from.scope.kind,
        }),
        ...(stock.root && { imageId: stock.root.image.id }),
        ready: ready.length,
        privateBytes: ready.reduce((sum, guest) => sum + guest.privateBytes, 0),
      })),
    };
  }

  /** Resolves when the refill under way has ended: nothing is wanted any more, or nothing can be made. */
  async filled(signal: AbortSignal): Promise<void> {
    this.#wake();
    await abortable(this.#refilling ?? Promise.resolve(), signal);
  }

  /** Ends all that wait; those of a template or an image only, if one is given. */
  async empty(of: { readonly key?: string; readonly imageId?: string } = {}): Promise<void> {
    const { key, imageId } = of;
    const doomed = [...this.#shelves].filter(
      ([, { stock }]) =>
        (key === undefined || ('key' in stock.from && stock.from.key === key)) &&
        (imageId === undefined || stock.root?.image.id === imageId),
    );
    for (const [name] of doomed) this.#shelves.delete(name);
    await this.#stopMaking((shelf) => doomed.some(([, one]) => one === shelf));
    await Promise.all(doomed.flatMap(([, shelf]) => shelf.ready.splice(0).map(endPooled)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort(new Error('the pool is being emptied'));
    await this.#refilling;
    await this.#watching;
    await this.empty();
  }

  #wake(): void {
    this.#wanted.resolve();
    if (this.#end.signal.aborted || this.#refilling !== undefined || this.#next() === undefined) return;
    this.#refilling = this.#refill().finally(() => {
      this.#refilling = undefined;
    });
    this.#watching ??= this.#watch().finally(() => {
      this.#watching = undefined;
    });
  }

  /** The shelf that lacks a clone and was used last. */
  #next(): [string, Shelf] | undefined {
    if (this.#underPressure || this.#privateBytes() >= this.#policy.memoryCeilingBytes) return undefined;
    return [...this.#shelves]
      .filter(([, shelf]) => shelf.ready.length < this.#policy.ready)
      .toSorted(([, a], [, b]) => b.lastUseMs - a.lastUseMs)[0];
  }

  async #refill(): Promise<void> {
    const { signal } = this.#end;
    try {
      for (let next = this.#next(); next !== undefined; next = this.#next()) {
        const dueMs = this.#quietSinceMs + this.#policy.refillPauseMs - performance.now();
        if (this.#launches > 0 || dueMs > 0) {
          await this.#untilWanted(this.#launches > 0 ? watchPauseMs : dueMs, signal);
          continue;
        }
        const [name, shelf] = next;
        const guest = await this.#make(shelf, signal);
        if (guest === undefined) continue;
        // its shelf may have gone meanwhile, or fewer may be wanted
        if (this.#shelves.get(name) !== shelf || shelf.ready.length >= this.#policy.ready) {
          await endPooled(guest);
          continue;
        }
        shelf.ready.push(guest);
        void whenUseless(guest).then(() => this.#forget(shelf, guest));
        this.#quietSinceMs = performance.now();
      }
    } catch (error) {
      if (signal.aborted) return;
      this.#deps.log.warn({ err: error }, `the pool cannot be refilled: ${messageOf(error)}`);
      // the next claim tries again
    }
  }

  /** Undefined when it was stopped. */
  async #make(shelf: Shelf, signal: AbortSignal): Promise<ReadyGuest | undefined> {
    const stopped = new Error('it is wanted no more');
    return await withCancel(signal, async (inner, cancel) => {
      const made = this.#deps
        .build(inner)
        .then((deps) => makeReady(shelf.stock, this.#deps.templates, deps, inner));
      this.#making = { shelf, over: made.catch(() => {}), stop: () => cancel(stopped) };
      try {
        return await made;
      } catch (error) {
        if (inner.reason === stopped) return undefined;
        throw error;
      } finally {
        this.#making = undefined;
      }
    });
  }

  async #stopMaking(isUnwanted: (shelf: Shelf) => boolean): Promise<void> {
    const making = this.#making;
    if (making === undefined || !isUnwanted(making.shelf)) return;
    making.stop();
    await making.over;
  }

  /** Until somebody changes what is wanted, or `limitMs` have passed. */
  async #untilWanted(limitMs: number, signal: AbortSignal): Promise<void> {
    this.#wanted = Promise.withResolvers();
    await withCancel(signal, async (inner, cancel) => {
      await Promise.race([this.#wanted.promise, sleep(limitMs, undefined, { signal: inner, ref: false })]);
      cancel(new Error('it is wanted'));
    });
  }

  #forget(shelf: Shelf, guest: ReadyGuest): void {
    const index = shelf.ready.indexOf(guest);
    if (index < 0) return; // claimed, or ended by us
    shelf.ready.splice(index, 1);
    void endPooled(guest).catch(() => {});
    this.#wake();
  }

  #privateBytes(): number {
    const all = [...this.#shelves.values()].flatMap(({ ready }) => ready);
    return all.reduce((sum, guest) => sum + guest.privateBytes, 0);
  }

  async #trim(): Promise<void> {
    const surplus = [...this.#shelves.values()].flatMap(({ ready }) => ready.splice(this.#policy.ready));
    while (this.#privateBytes() > this.#policy.memoryCeilingBytes) {
      const largest = [...this.#shelves.values()].toSorted((a, b) => b.ready.length - a.ready.length)[0];
      const guest = largest?.ready.pop();
      if (guest === undefined) break;
      surplus.push(guest);
    }
    await Promise.all(surplus.map(endPooled));
  }

  /** Runs while there is a shelf. */
  async #watch(): Promise<void> {
    const { signal } = this.#end;
    while (this.#shelves.size > 0 && !signal.aborted) {
      await sleep(watchPauseMs, undefined, { signal, ref: false }).catch(() => {});
      if (signal.aborted) return;
      const oldestMs = performance.now() - this.#policy.idleTimeoutMs;
      for (const [name, shelf] of this.#shelves) {
        if (shelf.lastUseMs >= oldestMs) continue;
        this.#shelves.delete(name);
        await Promise.all(shelf.ready.splice(0).map(endPooled));
      }
      await this.#heedPressure();
    }
  }

  async #heedPressure(): Promise<void> {
    const available = await availablePercent();
    const before = this.#underPressure;
    // a margin, so that it does not empty and refill in turn
    this.#underPressure = available < this.#policy.minAvailablePercent + (before ? 5 : 0);
    if (this.#underPressure && !before) {
      this.#deps.log.warn({ availablePercent: available }, 'memory is short: the pool is emptied');
      await Promise.all([...this.#shelves.values()].flatMap(({ ready }) => ready.splice(0).map(endPooled)));
    }
    if (before && !this.#underPressure) this.#wake();
  }
}

/** Clones that have an image mounted, booted guests with an image and a share, and booted ones for bundles. */
function kindOf({ from, root }: Stock): 'clone' | 'share' | 'bundle' {
  if ('key' in from) return 'clone';
  return root === undefined ? 'bundle' : 'share';
}

/** MemAvailable of proc_meminfo(5), percent of the whole. */
async function availablePercent(): Promise<number> {
  const text = await readFile('/proc/meminfo', 'utf8');
  const kibibytes = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]);
  return (kibibytes('MemAvailable') / kibibytes('MemTotal')) * 100;
}
