import { HrunError } from '../../base/errors.ts';
import type { ContainerSummary } from '../../runtime/views.ts';
import { complainOfDamage } from '../complainOfDamage.ts';
import { exitCodes } from '../exitCodes.ts';
import { integerOption } from '../flags.ts';
import { addFilters, type Filters, matches, parseFilters, passes, passesLabels } from '../parse/filters.ts';
import { containerRow, containerShape, stateOf } from '../render/containerRows.ts';
import { renderList } from '../render/format.ts';
import type { Verb } from '../verb.ts';

export interface PsFlags {
  readonly all?: true;
  readonly filter: readonly string[];
  readonly format?: string;
  readonly last: number;
  readonly latest?: true;
  readonly trunc: boolean;
  readonly quiet?: true;
  readonly size?: true;
}

const filterKeys = ['ancestor', 'before', 'exited', 'id', 'label', 'name', 'since', 'status'];
/** Docker's; hrun knows the first three. */
const states = ['created', 'running', 'exited', 'paused', 'restarting', 'removing', 'dead'];

export const ps: Verb = {
  configure(command) {
    command.option('-a, --all', 'Show those that do not run, too');
    addFilters(command, filterKeys);
    command.option('--format <format>', 'json, or a Go template, also "table TEMPLATE"');
    command.option('-n, --last <number>', 'Show the last created, in any state', integerOption(-1), -1);
    command.option('-l, --latest', 'Show the latest created, in any state');
    command.option('--no-trunc', 'Do not cut anything off');
    command.option('-q, --quiet', 'Show ids only');
    command.option('-s, --size', 'Show how much each has written');
  },

  async run(command, context) {
    const flags = command.opts<PsFlags>();
    parseFilters(flags.filter, filterKeys);
    const engine = await context.deps.engine();
    const all = await engine.containers.list({ withSize: flags.size === true }, context.signal);
    const chosen = chooseContainers(all, flags);
    await context.print(renderContainers(chosen, flags, context.deps.now()));
    await complainOfDamage('container', engine.system, context);
    return exitCodes.ok;
  },
};

/** Those that the flags ask for, newest first. @throws HrunError INVALID_ARGUMENT for a wrong filter */
export function chooseContainers(
  all: readonly ContainerSummary[],
  flags: Pick<PsFlags, 'all' | 'filter' | 'last' | 'latest'>,
): readonly ContainerSummary[] {
  const filters = parseFilters(flags.filter, filterKeys);
  for (const status of filters.get('status') ?? []) {
    if (!states.includes(status)) {
      throw new HrunError('INVALID_ARGUMENT', `invalid filter "status=${status}"`);
    }
  }
  const count = flags.latest ? 1 : flags.last;
  const anyState = flags.all || count > 0 || filters.has('status');
  const passing = all
    .filter((container) => anyState || container.status === 'running')
    .filter((container) => passesAll(container, filters, all))
    .toSorted((a, b) => b.createdAtMs - a.createdAtMs);
  return count > 0 ? passing.slice(0, count) : passing;
}

function passesAll(container: ContainerSummary, filters: Filters, all: readonly ContainerSummary[]): boolean {
  const createdOf = (ref: string) => {
    const found = all.find(({ id, name }) => name === ref || id.startsWith(ref));
    if (found === undefined) throw new HrunError('NOT_FOUND', `no such container: ${ref}`);
    return found.createdAtMs;
  };
  const { id, name, image, imageId, labels } = container;
  return (
    passes(filters, 'id', (value) => id.startsWith(value)) &&
    passes(filters, 'name', (value) => matches(name, value.replace(/^(\^?)\//, '$1'))) &&
    passes(filters, 'status', (value) => stateOf(container) === value) &&
    passes(
      filters,
      'exited',
      (value) => container.status === 'exited' && container.exitCode === Number(value),
    ) &&
    passes(
      filters,
      'ancestor',
      (value) => image === value || isImageId(imageId, value) || image === `${value}:latest`,
    ) &&
    passes(filters, 'before', (value) => container.createdAtMs < createdOf(value)) &&
    passes(filters, 'since', (value) => container.createdAtMs > createdOf(value)) &&
    passesLabels(filters, labels)
  );
}

function isImageId(imageId: string, value: string): boolean {
  return value.length >= 4 && (imageId.startsWith(value) || imageId.startsWith(`sha256:${value}`));
}

function renderContainers(containers: readonly ContainerSummary[], flags: PsFlags, nowMs: number): string {
  const rows = containers.map((container) => containerRow(container, nowMs, !flags.trunc));
  if (flags.quiet && flags.format === undefined) return rows.map((row) => `${row.ID}\n`).join('');
  const columns = flags.size ? [...containerShape.columns, 'Size'] : containerShape.columns;
  return renderList(rows, { ...containerShape, columns }, flags.format);
}
