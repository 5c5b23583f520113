import type { Series } from './results.ts';
import { summarize } from './stats.ts';
import { figure } from './table.ts';

const width = 960;
const labelWidth = 330;
const rowHeight = 34;
const head = 48;
const right = 90;

/** One picture for series of one unit: for each its samples, its quartiles as a box and its median as a line. */
export function plot(title: string, series: readonly Series[]): string {
  const unit = series[0]?.unit ?? '';
  const largest = Math.max(...series.flatMap(({ samples }) => samples), Number.MIN_VALUE);
  const x = (value: number) => labelWidth + (Math.max(0, value) / largest) * (width - labelWidth - right);
  const height = head + series.length * rowHeight + 30;
  const rows = series.map((one, index) => row(one, head + index * rowHeight, x));
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const at = x(share * largest).toFixed(1);
    const bottom = height - 24;
    return (
      `<line x1="${at}" x2="${at}" y1="${head - 8}" y2="${bottom}" stroke="#ddd"/>` +
      `<text x="${at}" y="${bottom + 16}" text-anchor="middle" fill="#666">${figure(share * largest)}</text>`
    );
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12">`,
    '<rect width="100%" height="100%" fill="#fff"/>',
    `<text x="10" y="22" font-size="15">${escaped(title)} (${escaped(unit)})</text>`,
    ...ticks,
    ...rows,
    '</svg>',
    '',
  ].join('\n');
}

function row({ name, samples }: Series, top: number, x: (value: number) => number): string {
  const { p25, p50, p75 } = summarize(samples);
  const middle = top + rowHeight / 2;
  const box = { left: x(p25), right: Math.max(x(p75), x(p25) + 1) };
  const dots = samples.map(
    (value) => `<circle cx="${x(value).toFixed(1)}" cy="${middle}" r="2.5" fill="#36c" fill-opacity="0.35"/>`,
  );
  return [
    `<text x="${labelWidth - 10}" y="${middle + 4}" text-anchor="end">${escaped(name)}</text>`,
    `<rect x="${box.left.toFixed(1)}" y="${top + 8}" width="${(box.right - box.left).toFixed(1)}" height="${rowHeight - 16}" fill="#36c" fill-opacity="0.15" stroke="#36c"/>`,
    ...dots,
    `<line x1="${x(p50).toFixed(1)}" x2="${x(p50).toFixed(1)}" y1="${top + 5}" y2="${top + rowHeight - 5}" stroke="#c33" stroke-width="2"/>`,
    `<text x="${width - right + 10}" y="${middle + 4}" fill="#c33">${figure(p50)}</text>`,
  ].join('\n');
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
