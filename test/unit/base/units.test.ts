import { expect } from 'chai';
import {
  formatAgo,
  formatDuration,
  formatMemory,
  formatSize,
  parseDurationMs,
  parseSize,
} from '../../../src/base/units.ts';

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

describe('sizes', () => {
  for (const [text, bytes] of [
    ['0', 0],
    ['512m', 512 * 1024 ** 2],
    ['512M', 512 * 1024 ** 2],
    ['1.5g', 1.5 * 1024 ** 3],
    ['64 KiB', 65536],
    ['10gb', 10 * 1024 ** 3],
    ['1048576', 1048576],
    ['7b', 7],
  ] as const) {
    it(`reads ${text}`, () => expect(parseSize(text, '--memory')).to.equal(bytes));
  }
  for (const text of ['', 'm', '-1m', '1x', '1..5g', '1e3', '0x10', '99999p', '1 2m']) {
    it(`refuses "${text}"`, () => expect(() => parseSize(text, '--memory')).to.throw('--memory'));
  }
  it('prints as Docker does', () => {
    expect([0, 999, 1000, 4_261_550, 1_234_567_890].map((n) => formatSize(n))).to.deep.equal([
      '0B',
      '999B',
      '1kB',
      '4.262MB',
      '1.235GB',
    ]);
    expect(formatSize(4_261_550, 3)).to.equal('4.26MB');
    expect(formatMemory(536870912)).to.equal('512MiB');
    expect(formatMemory(8_221_000_000)).to.equal('7.656GiB');
  });
});

describe('durations', () => {
  it('reads Go durations', () => {
    expect(['10s', '1h30m', '1.5s', '100ms', '0'].map(parseDurationMs)).to.deep.equal([
      10_000, 5_400_000, 1500, 100, 0,
    ]);
  });
  it('refuses anything else', () => {
    expect(['', '10', 's', '10s ', '1d', '10s5'].map(parseDurationMs)).to.deep.equal(
      Array(6).fill(undefined),
    );
  });
  it('prints as Docker does', () => {
    const cases: readonly (readonly [number, string])[] = [
      [500, 'Less than a second'],
      [1000, '1 second'],
      [59_999, '59 seconds'],
      [minuteMs, 'About a minute'],
      [5 * minuteMs, '5 minutes'],
      [hourMs, 'About an hour'],
      [2.6 * hourMs, '3 hours'],
      [47 * hourMs, '47 hours'],
      [2 * dayMs, '2 days'],
      [13 * dayMs, '13 days'],
      [15 * dayMs, '2 weeks'],
      [61 * dayMs, '2 months'],
      [800 * dayMs, '2 years'],
    ];
    for (const [ms, text] of cases) expect(formatDuration(ms)).to.equal(text);
    expect(formatAgo(0, 3 * minuteMs)).to.equal('3 minutes ago');
    expect(formatAgo(10, 0)).to.equal('Less than a second ago');
  });
});
