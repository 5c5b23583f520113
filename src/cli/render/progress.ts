import type { Writable } from 'node:stream';
import { clip, printable } from '../../base/text.ts';
import { formatSize } from '../../base/units.ts';
import type { Progress, ProgressAmount } from '../../runtime/engine.ts';

export interface ProgressOptions {
  readonly output: Writable;
  readonly isTerminal: boolean;
  readonly columns: () => number;
  /** Show nothing. */
  readonly quiet: boolean;
  /** Milliseconds, monotonic; for tests. */
  readonly now?: () => number;
}

export interface ShownProgress extends Progress {
  /** Draws the last state and leaves it on the screen. */
  stop(): void;
}

/** Between two drawings of bars: a terminal over a network should not drown in them. */
const redrawMs = 100;
const barWidth = 30;
/** More bars than fit on a screen cannot be drawn over again. */
const maxBars = 15;

/** Bars that are drawn over again on a terminal, a line per change of state elsewhere. */
export function openProgress(options: ProgressOptions): ShownProgress {
  if (options.quiet) return { message() {}, part() {}, stop() {} };
  return options.isTerminal ? bars(options) : lines(options);
}

function lines({ output }: ProgressOptions): ShownProgress {
  const states = new Map<string, string>();
  return {
    message: (text) => void output.write(`${printable(text, 1000)}\n`),
    part(id, status) {
      if (states.get(id) === status) return;
      states.set(id, status);
      output.write(`${printable(id)}: ${printable(status)}\n`);
    },
    stop() {},
  };
}

interface Part {
  readonly status: string;
  readonly amount: ProgressAmount | undefined;
}

function bars({ output, columns, now = () => performance.now() }: ProgressOptions): ShownProgress {
  const parts = new Map<string, Part>();
  let drawn = 0;
  let drawnAtMs = Number.NEGATIVE_INFINITY;
  let stale = false;
  const draw = (above = '') => {
    const width = Math.max(20, columns()) - 1;
    const rows = [...parts].slice(-maxBars).map(([id, part]) => `${clip(renderPart(id, part), width)}\n`);
    // Up to the first bar, then clear to the end of the screen and draw all of them again.
    output.write(`${drawn > 0 ? `\x1b[${drawn}A` : ''}\r\x1b[J${above}${rows.join('')}`);
    drawn = rows.length;
    drawnAtMs = now();
    stale = false;
  };
  return {
    message(text) {
      const line = `${printable(text, 1000)}\n`;
      if (drawn === 0) output.write(line);
      else draw(line);
    },
    part(id, status, amount) {
      const changed = parts.get(id)?.status !== status;
      parts.set(id, { status, amount });
      stale = true;
      if (changed || now() - drawnAtMs >= redrawMs) draw();
    },
    stop() {
      if (stale) draw();
      drawn = 0;
      parts.clear();
    },
  };
}

function renderPart(id: string, { status, amount }: Part): string {
  const head = `${printable(id)}: ${printable(status)}`;
  if (amount === undefined) return head;
  const show = (value: number) => (amount.unit === 'bytes' ? formatSize(value) : `${value}`);
  if (amount.total === undefined || amount.total <= 0) return `${head} ${show(amount.current)}`;
  const share = Math.min(1, amount.current / amount.total);
  const filled = Math.round(share * barWidth);
  const bar = `${'='.repeat(Math.max(0, filled - 1))}${filled > 0 ? '>' : ''}`.padEnd(barWidth);
  return `${head} [${bar}] ${show(amount.current)}/${show(amount.total)}`;
}
