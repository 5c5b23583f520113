import { setTimeout as sleep } from 'node:timers/promises';

export interface Backoff {
  /** Waits, each time twice as long as before, up to the limit. @throws the reason of `signal` */
  pause(signal: AbortSignal): Promise<void>;
  /** The next pause is the first again. */
  reset(): void;
}

/** Pauses between attempts: `firstMs`, doubling up to `maxMs`. */
export function backoff(firstMs: number, maxMs: number): Backoff {
  let nextMs = firstMs;
  return {
    async pause(signal) {
      signal.throwIfAborted();
      const pauseMs = nextMs;
      nextMs = Math.min(nextMs * 2, maxMs);
      await sleep(pauseMs, undefined, { signal }).catch(() => {
        throw signal.reason;
      });
    },
    reset() {
      nextMs = firstMs;
    },
  };
}
