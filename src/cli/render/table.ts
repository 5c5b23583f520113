import { printable } from '../../base/text.ts';

/** Least width of a column and the blanks that follow its longest cell, as Docker's tables have them. */
const dockerMinWidth = 10;
const padding = 3;

const maxCellLength = 10_000;

/**
 * Rows in columns without borders; the last column is not padded. Every line ends with a newline. Control characters
 * in cells, which may come from images and guests, are made harmless.
 */
export function renderTable(cells: readonly (readonly string[])[], minWidth = dockerMinWidth): string {
  const rows = cells.map((row) => row.map((cell) => printable(cell, maxCellLength)));
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.slice(0, -1).entries()) {
      widths[column] = Math.max(widths[column] ?? minWidth, displayWidth(cell) + padding);
    }
  }
  return rows.map((row) => `${renderRow(row, widths)}\n`).join('');
}

function renderRow(row: readonly string[], widths: readonly number[]): string {
  return row
    .map((cell, column) =>
      column === row.length - 1 ? cell : cell + ' '.repeat((widths[column] ?? 0) - displayWidth(cell)),
    )
    .join('');
}

/** Code points: good enough for names and commands, which are mostly ASCII. */
function displayWidth(text: string): number {
  return [...text].length;
}
