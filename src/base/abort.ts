import { HrunError } from './errors.ts';

/**
 * `promise`, or a rejection with the signal's reason as soon as it fires. The work behind the promise goes on: use it
 * only where that is harmless, and where the work itself cannot take the signal.
 */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  promise.catch(() => {}); // its failure after an abort is nobody's
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/**
 * As Promise.all, but only once all have settled: what those that succeeded have opened can then be closed by whoever
 * gets the failure of another.
 */
export async function allSettled<T extends readonly unknown[]>(
  promises: {
    readonly [K in keyof T]: Promise<T[K]>;
  },
): Promise<T> {
  await Promise.allSettled(promises);
  return (await Promise.all(promises)) as unknown as T;
}

/**
 * Runs `work` with a signal that fires when `signal` does or when `cancel` is called with a reason; the listener on
 * `signal`, which may live long, is gone afterwards.
 */
export async function withCancel<T>(
  signal: AbortSignal,
  work: (signal: AbortSignal, cancel: (reason: unknown) => void) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const cancel = (reason: unknown) => controller.abort(reason);
  const onAbort = () => cancel(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await work(controller.signal, cancel);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/**
 * Runs `work` with a signal that also fires after `limitMs`.
 * @throws HrunError TIMEOUT naming `phase` ("waiting for the agent") when the time is over
 */
export function withDeadline<T>(
  phase: string,
  limitMs: number,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  return withCancel(signal, async (inner, cancel) => {
    const timer = setTimeout(() => {
      cancel(new HrunError('TIMEOUT', `${phase} took longer than ${limitMs / 1000} s`));
    }, limitMs);
    try {
      return await work(inner);
    } catch (error) {
      // node's own functions reject with an AbortError that hides the reason
      if (inner.aborted) throw inner.reason;
      throw error;
    } finally {
      clearTimeout(timer);
    }
  });
}
