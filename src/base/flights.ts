import { abortable } from './abort.ts';

/** Work on one object asked for by several at once is done once. */
export interface Flights<Result, Event> {
  /**
   * Joins the work on `key`, or begins it. The work is told to stop when everybody who waits for it has given up;
   * `listener` hears of its events from now on.
   */
  join(
    key: string,
    work: (notify: (event: Event) => void, signal: AbortSignal) => Promise<Result>,
    listener: (event: Event) => void,
    signal: AbortSignal,
  ): Promise<Result>;
}

interface Flight<Result, Event> {
  readonly result: Promise<Result>;
  readonly listeners: Set<(event: Event) => void>;
  readonly stop: AbortController;
}

export function createFlights<Result, Event>(): Flights<Result, Event> {
  const flights = new Map<string, Flight<Result, Event>>();

  function begin(
    key: string,
    work: (notify: (event: Event) => void, signal: AbortSignal) => Promise<Result>,
  ): Flight<Result, Event> {
    const stop = new AbortController();
    const listeners = new Set<(event: Event) => void>();
    const notify = (event: Event) => {
      for (const listener of listeners) listener(event);
    };
    const result = work(notify, stop.signal).finally(() => flights.delete(key));
    result.catch(() => {}); // nobody may be left to hear of it
    const flight = { result, listeners, stop };
    flights.set(key, flight);
    return flight;
  }

  return {
    join: async (key, work, listener, signal) => {
      signal.throwIfAborted();
      for (let flight = flights.get(key); flight?.stop.signal.aborted; flight = flights.get(key)) {
        // Everybody gave it up, yet it still cleans up: two at once would share its temporary files.
        await abortable(
          flight.result.catch(() => {}),
          signal,
        );
      }
      const flight = flights.get(key) ?? begin(key, work);
      // Not the listener itself: two callers may bring the same function.
      const hear = (event: Event) => listener(event);
      flight.listeners.add(hear);
      try {
        return await abortable(flight.result, signal);
      } finally {
        flight.listeners.delete(hear);
        if (flight.listeners.size === 0 && flights.get(key) === flight) {
          flight.stop.abort(signal.reason);
          // Whoever gives up last sees the work's temporary files gone.
          await flight.result.catch(() => {});
        }
      }
    },
  };
}
