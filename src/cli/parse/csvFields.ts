import { HrunError } from '../../base/errors.ts';

/**
 * The fields of one line of comma-separated values as RFC 4180 has them, and Docker reads `--mount`: a field in quotes may
 * hold commas, and a quote as two.
 * @throws HrunError INVALID_ARGUMENT naming `what`
 */
export function csvFields(line: string, what: string): string[] {
  const fields: string[] = [];
  const field = /(?:"((?:[^"]|"")*)"|([^",\n\r]*))(,|$)/y;
  for (;;) {
    const at = field.lastIndex;
    const match = field.exec(line);
    if (match === null) {
      throw new HrunError('INVALID_ARGUMENT', `${what}: a quote is out of place in "${line.slice(at)}"`);
    }
    fields.push(match[1]?.replaceAll('""', '"') ?? match[2] ?? '');
    if (match[3] === '') return fields;
  }
}
