import { HrunError, isHrunError } from '../../base/errors.ts';
import { lineJson } from './json.ts';
import { renderTable } from './table.ts';
import { compileTemplate, type Template } from './template.ts';

/** How a list is shown; `columns` of the default table name fields of a row. */
export interface ListShape {
  /** Header of each field a template may name, `ID` → `CONTAINER ID`. */
  readonly headers: Readonly<Record<string, string>>;
  readonly columns: readonly string[];
}

/** Text of a field, or a method such as `.Label "name"`. */
export type Row = Readonly<Record<string, string | ((...args: readonly unknown[]) => string)>>;

/**
 * Renders rows as Docker's `--format` asks: nothing or `table` for the default table, `json` for an object per line,
 * `table TEMPLATE` for own columns (`\t` between them), and a template for a line each.
 * @throws HrunError INVALID_ARGUMENT for a wrong template
 */
export function renderList(rows: readonly Row[], shape: ListShape, format = 'table'): string {
  if (format === 'json') return rows.map((row) => `${lineJson(row)}\n`).join('');
  if (format === '' || format === 'table') {
    const cells = (row: Row) => shape.columns.map((name) => cellText(row[name]));
    return renderTable([cells(shape.headers), ...rows.map(cells)]);
  }
  const isTable = format.startsWith('table ');
  const source = withControls(isTable ? format.slice('table '.length) : format);
  const template = listTemplate(source);
  const lines = rows.map((row) => template(row));
  if (!isTable) return lines.map((line) => `${line}\n`).join('');
  const labelHeader = { Label: (name: unknown) => String(name) };
  const header = template({ ...labelHeader, ...shape.headers });
  return renderTable([header, ...lines].map((line) => line.split('\t')));
}

/** Docker's lists fail like any verb where its objects' and events' templates have an exit code of their own. */
function listTemplate(source: string): Template {
  try {
    return compileTemplate(source);
  } catch (error) {
    if (!isHrunError(error, 'TEMPLATE_INVALID')) throw error;
    const { hint } = error;
    throw new HrunError('INVALID_ARGUMENT', error.message, hint === undefined ? {} : { hint });
  }
}

/** A shell's single quotes leave `\t` and `\n` as two characters each. */
function withControls(format: string): string {
  return format.replaceAll('\\t', '\t').replaceAll('\\n', '\n');
}

function cellText(cell: Row[string] | undefined): string {
  return typeof cell === 'string' ? cell : '';
}
