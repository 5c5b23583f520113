import { HrunError } from '../../base/errors.ts';
import type { OciVerb } from './ociVerb.ts';

/** Of a process list with very many lines; more is not shown. */
const psTimeoutMs = 10_000;

export const ps: OciVerb = {
  name: 'ps',
  summary: 'ps displays the processes running inside a container',
  usage: '[command options] <container-id> [ps options]',
  args: [1, Number.POSITIVE_INFINITY],
  flags: [
    { name: 'format', aliases: ['f'], kind: 'string', description: 'select one of: table(default) or json' },
  ],
  async run({ oci, flags, args, caller, signal, context, name }) {
    const pids = oci.processes(name());
    const format = flags.text('format') ?? 'table';
    if (format === 'json') {
      // runc's empty list
      await context.print(`${pids.length === 0 ? 'null' : JSON.stringify(pids)}\n`);
      return 0;
    }
    if (format !== 'table') throw new HrunError('INVALID_ARGUMENT', 'invalid format option');
    const psArgs = args.length > 1 ? args.slice(1) : ['-ef'];
    const end = await caller.files.runProgram(
      { path: 'ps', args: ['ps', ...psArgs], stdin: Buffer.alloc(0), timeoutMs: psTimeoutMs },
      signal,
    );
    if (end.code !== 0) throw new HrunError('HAND_FAILED', `ps failed: ${end.stderr.trim()}`);
    await context.print(linesOf(end.stdout.toString('utf8'), new Set(pids)));
    return 0;
  },
};

/** The head of a table of ps(1), and the lines of these processes. Pure. @throws HrunError HAND_FAILED without a PID column */
export function linesOf(table: string, pids: ReadonlySet<number>): string {
  const [head = '', ...lines] = table.split('\n').filter((line) => line !== '');
  const column = head.trim().split(/\s+/).indexOf('PID');
  if (column < 0) throw new HrunError('HAND_FAILED', "couldn't find PID field in ps output");
  const own = lines.filter((line) => pids.has(Number(line.trim().split(/\s+/)[column])));
  return `${[head, ...own].join('\n')}\n`;
}
