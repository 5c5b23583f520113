import type { Results } from './results.ts';
import { summarize } from './stats.ts';

/** All that was measured, as text. */
export function renderResults(results: Results): string {
  const rows = results.series.map(({ group, name, unit, samples }) => {
    const { n, min, p50, p99, max } = summarize(samples);
    return [group, name, String(n), ...[min, p50, p99, max].map(figure), unit];
  });
  const header = ['group', 'case', 'n', 'min', 'p50', 'p99', 'max', 'unit'];
  const parts = [table([header, ...rows])];
  if (results.ratios.length > 0) {
    const lines = results.ratios.map(({ name, value, target }) => [
      name,
      figure(value ?? Number.NaN),
      target,
    ]);
    parts.push(table([['ratio of medians', 'value', 'target'], ...lines]));
  }
  for (const { group, name, reason } of results.missing)
    parts.push(`not measured: ${group}: ${name}: ${reason}\n`);
  for (const { group, name, message } of results.failures)
    parts.push(`FAILED: ${group}: ${name}: ${message}\n`);
  return parts.join('\n');
}

/** Three digits that matter. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return '–';
  if (value === 0) return '0';
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 4));
}

/** Columns of their widest cell; numbers to the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  }
  const isNumber = (cell: string) => /^[-–≤≥\d.]+$/.test(cell);
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return isNumber(cell) ? cell.padStart(width) : cell.padEnd(width);
      })
      .join('  ')
      .trimEnd();
  return rows.map((row) => `${line(row)}\n`).join('');
}
