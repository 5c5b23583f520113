import type { Timing } from '../base/phases.ts';
import type { AttachIo } from '../runtime/attachIo.ts';
import type { Ended } from '../runtime/engine.ts';
import type { Context } from './deps.ts';
import { exitCodes } from './exitCodes.ts';
import { lineJson } from './render/json.ts';

/** What an attached command says and answers when its workload has ended or was left running. */
export async function finishAttached(
  ended: Ended,
  io: AttachIo,
  context: Context,
  timingFormat?: TimingFormat,
): Promise<number> {
  if (ended.timing !== undefined) await context.complain(renderTiming(ended.timing, timingFormat));
  if (ended.kind === 'exited') return ended.exitCode;
  // The cursor stands behind what the workload printed last.
  if (io.detached.aborted) await context.complain('\r\nread escape sequence\n');
  return exitCodes.ok;
}

export type TimingFormat = 'text' | 'json';

/** How the microVM came to be, a line per phase, and the sum; or all of it as one line of JSON. */
export function renderTiming(timing: Timing, format: TimingFormat = 'text'): string {
  if (format === 'json') return `${lineJson(timing)}\n`;
  const { launch, phases } = timing;
  const totalMs = phases.reduce((sum, { durationMs }) => sum + durationMs, 0);
  const rows = [...phases, { name: 'total', durationMs: totalMs }];
  const width = Math.max(...rows.map(({ name }) => name.length));
  const lines = rows.map(
    ({ name, durationMs }) => `${name.padEnd(width)} ${durationMs.toFixed(1).padStart(9)} ms\n`,
  );
  if (launch === undefined) return lines.join('');
  const why = launch.reason === undefined ? '' : ` (${launch.reason})`;
  return `launch: ${launch.kind}${why}\n${lines.join('')}`;
}
