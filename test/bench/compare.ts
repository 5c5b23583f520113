import type { Results } from './results.ts';
import { median, ratioInterval } from './stats.ts';
import { figure, table } from './table.ts';

/**
 * What changed from one result to another: for each series that both have the ratio of the medians with its 95 %
 * interval, and a verdict only where the interval leaves 1 out.
 */
export function compareResults(before: Results, after: Results): string {
  const rows: string[][] = [];
  for (const old of before.series) {
    const now = after.series.find(({ group, name }) => group === old.group && name === old.name);
    if (now === undefined) {
      rows.push([old.group, old.name, figure(median(old.samples)), '–', '', '', 'gone']);
      continue;
    }
    const [low, high] = ratioInterval(now.samples, old.samples);
    const ratio = median(now.samples) / median(old.samples);
    const interval = old.samples.length > 1 ? `${figure(low)}–${figure(high)}` : '';
    const [was, is] = [figure(median(old.samples)), figure(median(now.samples))];
    const verdict = old.samples.length > 1 ? verdictOf(low, high, old.better) : '';
    rows.push([old.group, old.name, was, is, figure(ratio), interval, verdict]);
  }
  for (const now of after.series) {
    if (before.series.some(({ group, name }) => group === now.group && name === now.name)) continue;
    rows.push([now.group, now.name, '–', figure(median(now.samples)), '', '', 'new']);
  }
  return table([['group', 'case', 'before', 'after', 'ratio', '95 %', ''], ...rows]);
}

function verdictOf(low: number, high: number, better: 'lower' | 'higher'): string {
  if (!(low > 1 || high < 1)) return '';
  return low > 1 === (better === 'lower') ? 'worse' : 'better';
}
