/** setTimeout takes no more. */
const maxTimerMs = 2 ** 31 - 1;

export interface End extends Disposable {
  readonly signal: AbortSignal;
}

/** Fires at a moment (milliseconds since the epoch) at which following something ends; undefined: never. */
export function endAt(untilMs: number | undefined): End {
  const over = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const wait = () => {
    const remainingMs = (untilMs ?? 0) - Date.now();
    if (remainingMs <= 0) over.abort();
    else timer = setTimeout(wait, Math.min(remainingMs, maxTimerMs));
  };
  if (untilMs !== undefined) wait();
  return {
    signal: over.signal,
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}
