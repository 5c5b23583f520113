import { posix } from 'node:path';
import type { ProcessRow } from '../../runtime/views.ts';
import { exitCodes } from '../exitCodes.ts';
import { type PsColumn, parsePsOptions, type ShownColumn } from '../parse/psOptions.ts';
import { renderTable } from '../render/table.ts';
import type { Verb } from '../verb.ts';

/** Docker's, of this table only. */
const minColumnWidth = 20;

export const top: Verb = {
  configure() {},

  async run(command, context) {
    const [container = '', ...psOptions] = command.args;
    const columns = parsePsOptions(psOptions);
    const engine = await context.deps.engine();
    const rows = await engine.containers.top(container, context.signal);
    await context.print(renderProcesses(rows, columns, context.deps.now()));
    return exitCodes.ok;
  },
};

/** As ps shows processes; pids are the container's. */
export function renderProcesses(
  rows: readonly ProcessRow[],
  columns: readonly ShownColumn[],
  nowMs: number,
): string {
  const cells = rows.map((row) => columns.map(({ column }) => cellOf(column, row, nowMs)));
  return renderTable([columns.map(({ header }) => header), ...cells], minColumnWidth);
}

function cellOf(column: PsColumn, row: ProcessRow, nowMs: number): string {
  switch (column) {
    case 'args':
    case 'cmd':
    case 'command':
      return row.args.join(' ');
    case 'comm':
      return posix.basename(row.args[0] ?? '').slice(0, 15);
    case 'c':
      return String(Math.floor(row.cpuPercent));
    case 'pcpu':
      return row.cpuPercent.toFixed(1);
    case 'time':
    case 'cputime':
      return clockText(row.cpuTimeMs);
    case 'etime':
      return elapsedText(nowMs - row.startMs);
    case 'pid':
    case 'ppid':
    case 'uid':
      return String(row[column]);
    case 'rss':
      return String(Math.floor(row.rssBytes / 1024));
    case 'stime':
      return startText(row.startMs, nowMs);
    case 'tty':
    case 'tname':
      return row.tty;
    case 'user':
      return row.user;
  }
}

/** The time of day, or the date when it was not today (UTC, as the guest has it). */
function startText(startMs: number, nowMs: number): string {
  const start = new Date(startMs);
  const sameDay = start.toISOString().slice(0, 10) === new Date(nowMs).toISOString().slice(0, 10);
  if (sameDay) return start.toISOString().slice(11, 16);
  const month = start.toLocaleString('en-US', { month: 'short', timeZone: 'UTC' });
  return `${month}${String(start.getUTCDate()).padStart(2, '0')}`;
}

/** `[DD-]HH:MM:SS` */
function clockText(durationMs: number): string {
  const { days, parts } = split(durationMs);
  return `${days > 0 ? `${days}-` : ''}${parts.join(':')}`;
}

/** `[[DD-]HH:]MM:SS` */
function elapsedText(durationMs: number): string {
  const { days, parts } = split(Math.max(0, durationMs));
  if (days > 0) return `${days}-${parts.join(':')}`;
  return (parts[0] === '00' ? parts.slice(1) : parts).join(':');
}

function split(durationMs: number): { readonly days: number; readonly parts: readonly string[] } {
  const seconds = Math.floor(durationMs / 1000);
  const parts = [Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  return { days: Math.floor(seconds / 86_400), parts: parts.map((part) => String(part).padStart(2, '0')) };
}
