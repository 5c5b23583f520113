import { exitCodes } from '../exitCodes.ts';
import { renderList } from '../render/format.ts';
import { historyRow, historyShape } from '../render/imageRows.ts';
import type { Verb } from '../verb.ts';

interface HistoryFlags {
  readonly format?: string;
  readonly trunc: boolean;
  readonly quiet?: true;
}

export const history: Verb = {
  configure(command) {
    command.option('--format <format>', 'json, or a Go template, also "table TEMPLATE"');
    command.option('--no-trunc', 'Do not cut anything off');
    command.option('-q, --quiet', 'Show ids only');
  },

  async run(command, context) {
    const flags = command.opts<HistoryFlags>();
    const engine = await context.deps.engine();
    const entries = await engine.images.history(command.args[0] ?? '', context.signal);
    const rows = entries.map((entry) => historyRow(entry, context.deps.now(), !flags.trunc));
    if (flags.quiet) await context.print(rows.map(({ ID }) => `${ID}\n`).join(''));
    else await context.print(renderList(rows, historyShape, flags.format));
    return exitCodes.ok;
  },
};
