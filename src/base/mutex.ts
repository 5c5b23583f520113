import { abortable } from './abort.ts';

/** Lets one holder in at a time, in the order of asking. */
export class Mutex {
  #tail: Promise<unknown> = Promise.resolve();

  /** Waits for its turn; disposing the answer lets the next one in. @throws the reason of `signal` */
  async lock(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    const before = this.#tail;
    const released = Promise.withResolvers<void>();
    // Whoever gives up must not let its successor in before its predecessor is done.
    this.#tail = before.then(() => released.promise);
    try {
      await abortable(before, signal);
    } catch (reason) {
      released.resolve();
      throw reason;
    }
    return { [Symbol.dispose]: () => released.resolve() };
  }
}

/** A mutex per key; keys that nobody holds or waits for take no memory. */
export class KeyedMutex<Key> {
  readonly #entries = new Map<Key, { readonly mutex: Mutex; users: number }>();

  /** Keys that are held or waited for. */
  get size(): number {
    return this.#entries.size;
  }

  /** As `Mutex.lock`, among those that ask for the same key. */
  async lock(key: Key, signal: AbortSignal): Promise<Disposable> {
    const entry = this.#entries.get(key) ?? { mutex: new Mutex(), users: 0 };
    this.#entries.set(key, entry);
    entry.users += 1;
    using undo = new DisposableStack();
    undo.defer(() => {
      entry.users -= 1;
      if (entry.users === 0) this.#entries.delete(key);
    });
    undo.use(await entry.mutex.lock(signal));
    return undo.move();
  }
}
