import { expect } from 'chai';
import { alternate, type Bench, Recorder } from '../../bench/bench.ts';
import { compareResults } from '../../bench/compare.ts';
import { type Results, ResultsSchema, type Series } from '../../bench/results.ts';
import { ratioInterval, summarize } from '../../bench/stats.ts';
import { plot } from '../../bench/svg.ts';
import { figure, renderResults } from '../../bench/table.ts';

const series = (name: string, samples: number[], better: Series['better'] = 'lower'): Series => ({
  group: 'launch',
  name,
  unit: 'ms',
  better,
  samples,
});

const results = (...all: Series[]): Results =>
  ResultsSchema.parse({
    version: 1,
    startedAt: '2026-01-01T00:00:00Z',
    finishedAt: '2026-01-01T00:01:00Z',
    command: 'bench',
    rounds: 3,
    host: {},
    series: all,
    failures: [],
    missing: [{ group: 'launch', name: 'restore', reason: 'no template here' }],
    ratios: [],
  });

describe('the report of the benchmark', () => {
  it('knows quantiles', () => {
    const { p99, ...exact } = summarize([4, 1, 3, 2]);
    expect(exact).to.deep.equal({ n: 4, min: 1, p25: 1.75, p50: 2.5, p75: 3.25, max: 4 });
    expect(p99).to.be.closeTo(3.97, 1e-9);
    expect(summarize([]).p50).to.be.NaN;
  });

  it('shows three digits that matter', () => {
    expect([1234.5, 12.345, 0.12345, 0].map(figure)).to.deep.equal(['1235', '12.3', '0.123', '0']);
  });

  it('calls a change one only when it is larger than the noise', () => {
    const noisy = [10, 20, 30, 12, 22, 28, 11, 19];
    const before = results(
      series('same', noisy),
      series('slower', [1, 1.1, 0.9, 1, 1.05, 0.95]),
      series('gone', [1, 2]),
    );
    const after = results(
      series('same', noisy.toReversed()),
      series('slower', [2, 2.1, 1.9, 2, 2.05, 1.95]),
      series('new', [1, 2]),
    );
    const lines = compareResults(before, after).split('\n');
    const line = (name: string) => lines.find((text) => text.includes(name)) ?? '';
    expect(line('same')).not.to.match(/worse|better/);
    expect(line('slower')).to.contain('2.00').and.contain('worse');
    expect(line('gone')).to.match(/gone$/);
    expect(line('new')).to.match(/new$/);
    const [low, high] = ratioInterval([2, 2.1, 1.9], [1, 1.1, 0.9]);
    expect(low).to.be.lessThan(2.2);
    expect(high).to.be.greaterThan(1.8);
  });

  it('leaves nothing out: what could not be measured is told', () => {
    expect(renderResults(results(series('a', [1])))).to.contain(
      'not measured: launch: restore: no template here',
    );
  });

  it('draws each sample', () => {
    const svg = plot('launch <now>', [series('a', [1, 2, 3]), series('b & c', [2, 2])]);
    expect(svg.match(/<circle/g)).to.have.length(5);
    expect(svg).to.contain('launch &lt;now&gt; (ms)').and.contain('b &amp; c').and.not.contain('NaN');
  });

  it('alternates, and goes on without a case that fails', async () => {
    const record = new Recorder(() => {});
    const order: string[] = [];
    const good = (name: string) => ({
      name,
      async sample() {
        order.push(name);
        return 1;
      },
    });
    const bad = {
      name: 'bad',
      async sample(): Promise<number> {
        throw new Error('broken');
      },
    };
    const { signal: interrupted } = new AbortController();
    const bench = { rounds: 3, record, interrupted } as unknown as Bench;
    await alternate('launch', [good('a'), bad, good('b')], bench);
    expect(order).to.deep.equal(['a', 'b', 'b', 'a', 'b', 'a']);
    expect(record.failures).to.deep.equal([{ group: 'launch', name: 'bad', message: 'broken' }]);
  });
});
