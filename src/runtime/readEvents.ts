import type { EventsRequest } from './engine.ts';
import type { EventLog } from './eventLog.ts';
import type { EngineEvent } from './views.ts';

/** setTimeout takes no more. */
const maxTimerMs = 2 ** 31 - 1;
const nanosecondsPerMs = 1_000_000n;

/**
 * The events between two moments, waiting for those that are still to come.
 * @throws the reason of `signal`
 */
export async function* readEvents(
  log: EventLog,
  { sinceMs, untilMs }: EventsRequest,
  signal: AbortSignal,
): AsyncGenerator<EngineEvent> {
  const remainingMs = untilMs === undefined ? undefined : untilMs - Date.now();
  const follow = remainingMs === undefined || remainingMs > 0;
  const sinceNs = nanosecondsOf(sinceMs ?? 0);
  const untilNs = untilMs === undefined ? undefined : nanosecondsOf(untilMs);
  const over = new AbortController();
  using timer = new DisposableStack();
  if (remainingMs !== undefined && follow) {
    timer.adopt(
      setTimeout(() => over.abort(), Math.min(remainingMs, maxTimerMs)),
      clearTimeout,
    );
  }
  const until = AbortSignal.any([signal, over.signal]);
  try {
    for await (const event of log.read(
      { past: sinceMs !== undefined || untilMs !== undefined, follow },
      until,
    )) {
      if (untilNs !== undefined && event.timeNs > untilNs) return;
      if (event.timeNs >= sinceNs) yield event;
    }
  } catch (error) {
    if (signal.aborted || !over.signal.aborted) throw error;
  }
}

function nanosecondsOf(timeMs: number): bigint {
  return BigInt(Math.floor(timeMs)) * nanosecondsPerMs;
}
