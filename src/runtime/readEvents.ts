import { endAt } from './endAt.ts';
import type { EventsRequest } from './engine.ts';
import type { EventLog } from './eventLog.ts';
import type { EngineEvent } from './views.ts';

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
  const follow = untilMs === undefined || untilMs > Date.now();
  const sinceNs = nanosecondsOf(sinceMs ?? 0);
  const untilNs = untilMs === undefined ? undefined : nanosecondsOf(untilMs);
  const past = sinceMs !== undefined || untilMs !== undefined;
  using end = endAt(follow ? untilMs : undefined);
  for await (const event of log.read({ past, follow, end: end.signal }, signal)) {
    if (untilNs !== undefined && event.timeNs > untilNs) {
      if (follow && untilMs !== undefined && Date.now() > untilMs) return;
      // the clock was set back since: others may have come before that moment
      continue;
    }
    if (event.timeNs >= sinceNs) yield event;
  }
}

function nanosecondsOf(timeMs: number): bigint {
  return BigInt(Math.floor(timeMs)) * nanosecondsPerMs;
}
