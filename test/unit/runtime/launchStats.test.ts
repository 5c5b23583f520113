import { expect } from 'chai';
import { LaunchStats } from '../../../src/runtime/launchStats.ts';

const timing = (kind: 'cold' | 'pooled', ...durations: number[]) => ({
  launch: { kind },
  phases: durations.map((durationMs, index) => ({ name: ['spawn', 'agent'][index] ?? '', durationMs })),
});

describe('LaunchStats', () => {
  it('tells percentiles of each phase and of the whole, by kind', () => {
    const stats = new LaunchStats();
    for (let index = 1; index <= 100; index += 1) stats.add(timing('pooled', index, 1));
    stats.add(timing('cold', 7));
    expect(stats.summaries()).to.deep.equal([
      {
        kind: 'pooled',
        count: 100,
        phases: [
          { name: 'spawn', p50Ms: 50, p99Ms: 99 },
          { name: 'agent', p50Ms: 1, p99Ms: 1 },
          { name: 'total', p50Ms: 51, p99Ms: 100 },
        ],
      },
      {
        kind: 'cold',
        count: 1,
        phases: [
          { name: 'spawn', p50Ms: 7, p99Ms: 7 },
          { name: 'total', p50Ms: 7, p99Ms: 7 },
        ],
      },
    ]);
  });

  it('forgets launches of long ago, and counts them all the same', () => {
    const stats = new LaunchStats();
    for (let index = 0; index < 1000; index += 1) stats.add(timing('cold', index < 500 ? 1000 : 1));
    const [summary] = stats.summaries();
    expect(summary?.count).to.equal(1000);
    expect(summary?.phases[0]).to.deep.equal({ name: 'spawn', p50Ms: 1, p99Ms: 1 });
  });
});
