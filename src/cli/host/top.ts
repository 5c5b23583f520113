import type { ProcessRow } from '../../runtime/views.ts';
import { exitCodes } from '../exitCodes.ts';
import { renderTable } from '../render/table.ts';
import type { Verb } from '../verb.ts';

export const top: Verb = {
  configure() {},

  async run(command, context) {
    const engine = await context.deps.engine();
    const rows = await engine.containers.top(command.args[0] ?? '', context.signal);
    await context.print(renderProcesses(rows, context.deps.now()));
    return exitCodes.ok;
  },
};

/** As `ps -ef` shows processes; pids are the container's. */
export function renderProcesses(rows: readonly ProcessRow[], nowMs: number): string {
  const header = ['UID', 'PID', 'PPID', 'C', 'STIME', 'TTY', 'TIME', 'CMD'];
  const cells = rows.map(({ user, pid, ppid, cpuPercent, startMs, tty, cpuTimeMs, args }) => [
    user,
    String(pid),
    String(ppid),
    String(cpuPercent),
    startText(startMs, nowMs),
    tty,
    timeText(cpuTimeMs),
    args.join(' '),
  ]);
  return renderTable([header, ...cells]);
}

/** The time of day, or the date when it was not today (UTC, as the guest has it). */
function startText(startMs: number, nowMs: number): string {
  const start = new Date(startMs);
  const sameDay = start.toISOString().slice(0, 10) === new Date(nowMs).toISOString().slice(0, 10);
  if (sameDay) return start.toISOString().slice(11, 16);
  const month = start.toLocaleString('en-US', { month: 'short', timeZone: 'UTC' });
  return `${month}${String(start.getUTCDate()).padStart(2, '0')}`;
}

function timeText(cpuTimeMs: number): string {
  const seconds = Math.floor(cpuTimeMs / 1000);
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return parts.map((part) => String(part).padStart(2, '0')).join(':');
}
