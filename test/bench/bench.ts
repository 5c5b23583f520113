import type { HrunHost } from '../helpers/hrunHost.ts';
import type { Results, Series } from './results.ts';

/** What every group of cases works with. */
export interface Bench {
  readonly host: HrunHost;
  readonly rounds: number;
  readonly accelerator: 'kvm' | 'tcg';
  /** Idle containers that the density group starts at most. */
  readonly density: number;
  readonly record: Recorder;
  /** Fires when the user has had enough: what was begun is taken down, what was measured is kept. */
  readonly interrupted: AbortSignal;
}

export interface Case {
  readonly name: string;
  /** One sample in the unit of its group. */
  sample(): Promise<number>;
}

/** A name for what a group measures, and the work. */
export interface Group {
  readonly name: string;
  readonly about: string;
  run(bench: Bench): Promise<void>;
}

/** Collects what the groups measure. Nothing is left out in silence: it is a series, a failure or missing. */
export class Recorder {
  readonly series: Series[] = [];
  readonly failures: Results['failures'] = [];
  readonly missing: Results['missing'] = [];
  readonly #say: (line: string) => void;

  constructor(say: (line: string) => void) {
    this.#say = say;
  }

  add(group: string, name: string, value: number, unit = 'ms', better: Series['better'] = 'lower'): void {
    const known = this.series.find((series) => series.group === group && series.name === name);
    if (known === undefined) this.series.push({ group, name, unit, better, samples: [value] });
    else known.samples.push(value);
  }

  fail(group: string, name: string, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    this.#say(`FAILED ${group}: ${name}: ${message}`);
    this.failures.push({ group, name, message });
  }

  cannot(group: string, name: string, reason: string): void {
    this.#say(`not measured: ${group}: ${name}: ${reason}`);
    this.missing.push({ group, name, reason });
  }

  samples(group: string, name: string): readonly number[] {
    return this.series.find((series) => series.group === group && series.name === name)?.samples ?? [];
  }
}

/**
 * Measures cases in turn, round after round, so that a busy host hurts all of them alike. A case that fails once is
 * given up: its samples so far stay, its failure is told.
 */
export async function alternate(group: string, cases: readonly Case[], bench: Bench): Promise<void> {
  const failed = new Set<Case>();
  for (let round = 0; round < bench.rounds; round++) {
    // Not always after the same neighbour.
    const order = cases.map((_, index) => cases[(index + round) % cases.length]);
    for (const item of order) {
      if (item === undefined || failed.has(item)) continue;
      bench.interrupted.throwIfAborted();
      try {
        bench.record.add(group, item.name, await item.sample());
      } catch (error) {
        failed.add(item);
        bench.record.fail(group, item.name, error);
      }
    }
  }
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}
