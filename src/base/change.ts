/** Something that several may wait for and that happens again and again. */
export class Change {
  readonly #waiting = new Set<() => void>();

  /** Lets everybody who waits now go on. */
  notify(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Settles at the next `notify`. @throws the reason of `signal` */
  next(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const wake = () => {
      this.#waiting.delete(wake);
      signal.removeEventListener('abort', wake);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    this.#waiting.add(wake);
    signal.addEventListener('abort', wake);
    return promise;
  }
}
