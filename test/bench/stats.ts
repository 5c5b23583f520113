export interface Summary {
  readonly n: number;
  readonly min: number;
  readonly p25: number;
  readonly p50: number;
  readonly p75: number;
  readonly p99: number;
  readonly max: number;
}

/** Quantiles by linear interpolation between the samples beside them. NaN without samples. */
export function summarize(samples: readonly number[]): Summary {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (share: number) => {
    const place = (sorted.length - 1) * share;
    const [below, above] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
    if (below === undefined || above === undefined) return Number.NaN;
    return below + (above - below) * (place - Math.floor(place));
  };
  return {
    n: sorted.length,
    min: at(0),
    p25: at(0.25),
    p50: at(0.5),
    p75: at(0.75),
    p99: at(0.99),
    max: at(1),
  };
}

export function median(samples: readonly number[]): number {
  return summarize(samples).p50;
}

/**
 * The 95 % interval of the ratio of two medians, by drawing both sets again and again from themselves. The draws are the
 * same in each call.
 */
export function ratioInterval(
  numerator: readonly number[],
  denominator: readonly number[],
): readonly [low: number, high: number] {
  const draws = 1000;
  const random = generator(1);
  const draw = (samples: readonly number[]) =>
    samples.map(() => samples[Math.floor(random() * samples.length)] ?? Number.NaN);
  const ratios = Array.from({ length: draws }, () => median(draw(numerator)) / median(draw(denominator)));
  const sorted = ratios.toSorted((a, b) => a - b);
  return [sorted[Math.floor(draws * 0.025)] ?? Number.NaN, sorted[Math.floor(draws * 0.975)] ?? Number.NaN];
}

/** A linear congruential generator (Numerical Recipes), 0 to 1. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
