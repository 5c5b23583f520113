import type { Launch, Timing } from '../base/phases.ts';

/** The launches that percentiles are of: the latest of each kind. */
const keptLaunches = 500;

export interface PhasePercentiles {
  readonly name: string;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface LaunchSummary {
  readonly kind: Launch['kind'];
  /** Since this daemon started. */
  readonly count: number;
  /** Of the latest launches, in the order in which phases happen; the last is `total`. */
  readonly phases: readonly PhasePercentiles[];
}

/** How long the launches of this daemon took. */
export class LaunchStats {
  readonly #byKind = new Map<Launch['kind'], { count: number; readonly latest: Timing[] }>();

  add(timing: Timing): void {
    if (timing.launch === undefined) return;
    const { kind } = timing.launch;
    const stats = this.#byKind.get(kind) ?? { count: 0, latest: [] };
    this.#byKind.set(kind, stats);
    stats.count += 1;
    stats.latest.push(timing);
    if (stats.latest.length > keptLaunches) stats.latest.shift();
  }

  summaries(): LaunchSummary[] {
    return [...this.#byKind].map(([kind, { count, latest }]) => ({
      kind,
      count,
      phases: [...phasesOf(latest), percentilesOf('total', latest.map(totalMs))],
    }));
  }
}

function phasesOf(timings: readonly Timing[]): PhasePercentiles[] {
  const durations = new Map<string, number[]>();
  for (const { name, durationMs } of timings.flatMap(({ phases }) => phases)) {
    const known = durations.get(name);
    if (known === undefined) durations.set(name, [durationMs]);
    else known.push(durationMs);
  }
  return [...durations].map(([name, values]) => percentilesOf(name, values));
}

function totalMs({ phases }: Timing): number {
  return phases.reduce((sum, { durationMs }) => sum + durationMs, 0);
}

/** Nearest rank: a percentile is a duration that was measured. */
function percentilesOf(name: string, durationsMs: readonly number[]): PhasePercentiles {
  const sorted = durationsMs.toSorted((a, b) => a - b);
  const at = (percent: number) => sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] ?? 0;
  return { name, p50Ms: at(50), p99Ms: at(99) };
}
