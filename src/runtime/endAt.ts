/** setTimeout takes no more. */
const maxTimerMs = 2 ** 31 - 1;

export interface End extends Disposable {
  /** Fires at that moment, too. */
  readonly signal: AbortSignal;
  /** Whether it was the moment that fired. */
  readonly reached: boolean;
}

/** `signal`, and a moment (milliseconds since the epoch) at which following something ends; undefined: never. */
export function endAt(untilMs: number | undefined, signal: AbortSignal): End {
  const over = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const wait = () => {
    const remainingMs = (untilMs ?? 0) - Date.now();
    if (remainingMs <= 0) over.abort();
    else timer = setTimeout(wait, Math.min(remainingMs, maxTimerMs));
  };
  if (untilMs !== undefined) wait();
  return {
    signal: AbortSignal.any([signal, over.signal]),
    get reached() {
      return over.signal.aborted;
    },
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}
