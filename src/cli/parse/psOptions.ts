import { HrunError } from '../../base/errors.ts';

/** Columns of ps(1) that `top` knows, each with ps's header. */
const psColumns = {
  args: 'COMMAND',
  c: 'C',
  cmd: 'CMD',
  comm: 'COMMAND',
  command: 'COMMAND',
  cputime: 'TIME',
  etime: 'ELAPSED',
  pcpu: '%CPU',
  pid: 'PID',
  ppid: 'PPID',
  rss: 'RSS',
  stime: 'STIME',
  time: 'TIME',
  tname: 'TTY',
  tty: 'TT',
  uid: 'UID',
  user: 'USER',
} as const;

export type PsColumn = keyof typeof psColumns;

export interface ShownColumn {
  readonly column: PsColumn;
  readonly header: string;
}

/** What `ps -ef`, Docker's default, shows. */
const full: readonly ShownColumn[] = [
  { column: 'user', header: 'UID' },
  ...(['pid', 'ppid', 'c', 'stime', 'tname', 'time', 'cmd'] as const).map(shown),
];

/**
 * The options that `docker top` hands to ps: `-ef`, and `-o LIST` with own headers (`pid,args=WHAT`). There is no ps in
 * the guest, so only these are known.
 * @throws HrunError INVALID_ARGUMENT
 */
export function parsePsOptions(options: readonly string[]): readonly ShownColumn[] {
  const columns: ShownColumn[] = [];
  const rest = [...options];
  for (let option = rest.shift(); option !== undefined; option = rest.shift()) {
    const list = /^(?:-[eA]*o|o)(.*)$/.exec(option)?.[1];
    if (list !== undefined) columns.push(...parseList(list === '' ? (rest.shift() ?? '') : list));
    else if (!/^-[efA]+$/.test(option)) {
      throw new HrunError('INVALID_ARGUMENT', `the option "${option}" of ps is not supported`, {
        hint: 'use -ef, or -o with a list of columns',
      });
    }
  }
  if (columns.length === 0) return full;
  if (!columns.some(({ column }) => column === 'pid')) {
    throw new HrunError('INVALID_ARGUMENT', "couldn't find the PID field in ps output", {
      hint: 'name pid among the columns',
    });
  }
  return columns;
}

function parseList(list: string): ShownColumn[] {
  return list.split(',').map((item) => {
    const [name = '', header] = item.split('=');
    const column = aliases.get(name) ?? name;
    if (!isColumn(column)) {
      throw new HrunError('INVALID_ARGUMENT', `unknown column of ps: "${name}"`, {
        hint: `the columns are ${Object.keys(psColumns).join(', ')}`,
      });
    }
    return header === undefined ? shown(column) : { column, header };
  });
}

const aliases = new Map<string, PsColumn>([
  ['%cpu', 'pcpu'],
  ['euid', 'uid'],
  ['euser', 'user'],
  ['rssize', 'rss'],
  ['tt', 'tty'],
  ['ucmd', 'comm'],
  ['uname', 'user'],
]);

function isColumn(name: string): name is PsColumn {
  return Object.hasOwn(psColumns, name);
}

function shown(column: PsColumn): ShownColumn {
  return { column, header: psColumns[column] };
}
