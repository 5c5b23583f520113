import { HrunError } from '../../base/errors.ts';
import { printable } from '../../base/text.ts';
import type { OciVerb } from './ociVerb.ts';
import { listElsewhere } from './otherRuntime.ts';

export const list: OciVerb = {
  name: 'list',
  summary: 'lists containers started by hrun with the given root',
  usage: '[command options]',
  args: [0, 0],
  flags: [
    { name: 'format', aliases: ['f'], kind: 'string', description: "select one of: 'table' or 'json'" },
    { name: 'quiet', aliases: ['q'], kind: 'bool', description: 'display only container IDs' },
  ],
  async run(call) {
    const { oci, flags, context, scope } = call;
    const states = [...oci.list(scope), ...(await listElsewhere(call))];
    const format = flags.text('format') ?? 'table';
    if (flags.bool('quiet')) {
      await context.print(states.map(({ id }) => `${id}\n`).join(''));
    } else if (format === 'json') {
      await context.print(states.length === 0 ? 'null' : JSON.stringify(states));
    } else if (format === 'table') {
      const rows = states.map(({ id, pid, status, bundle, created, owner }) => [
        id,
        String(pid),
        status,
        printable(bundle),
        created,
        owner,
      ]);
      await context.print(tabulated([['ID', 'PID', 'STATUS', 'BUNDLE', 'CREATED', 'OWNER'], ...rows]));
    } else {
      throw new HrunError('INVALID_ARGUMENT', 'invalid format option');
    }
    return 0;
  },
};

/** As Go's tabwriter with the settings of runc: cells of at least 12, 3 blanks between them. */
function tabulated(rows: readonly (readonly string[])[]): string {
  const widths =
    rows[0]?.map((_, column) => Math.max(12, ...rows.map((row) => (row[column]?.length ?? 0) + 3))) ?? [];
  return rows
    .map((row) =>
      row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))),
    )
    .map((row) => `${row.join('')}\n`)
    .join('');
}
