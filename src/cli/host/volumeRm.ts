import { isHrunError } from '../../base/errors.ts';
import { formatSize } from '../../base/units.ts';
import { exitCodes } from '../exitCodes.ts';
import { addList } from '../flags.ts';
import { parseFilters, passesLabels } from '../parse/filters.ts';
import { forEachTarget } from '../targets.ts';
import type { Verb } from '../verb.ts';

export const volumeRm: Verb = {
  configure(command) {
    command.option('-f, --force', 'Also what is damaged; no error for what is not there');
  },

  async run(command, context) {
    const { force = false } = command.opts<{ readonly force?: true }>();
    const { volumes } = await context.deps.engine();
    return forEachTarget(command.args, context, async (name) => {
      try {
        await volumes.remove(name, { force });
      } catch (error) {
        if (!force || !isHrunError(error, 'NOT_FOUND')) throw error;
      }
      return name;
    });
  },
};

interface VolumePruneFlags {
  readonly all?: true;
  readonly filter: readonly string[];
}

export const volumePrune: Verb = {
  configure(command) {
    command.option('-a, --all', 'Also those that have a name');
    addList(command, '--filter <filter>', 'Only those with label=KEY[=VALUE]');
    command.option('-f, --force', 'Do not ask (it never does)');
  },

  async run(command, context) {
    const { all = false, filter } = command.opts<VolumePruneFlags>();
    const filters = parseFilters(filter, ['label']);
    const { volumes } = await context.deps.engine();
    const { names, reclaimedBytes } = await volumes.prune(
      ({ anonymous, labels }) => (all || anonymous) && passesLabels(filters, labels),
    );
    if (names.length > 0) await context.print(`Deleted Volumes:\n${names.join('\n')}\n\n`);
    await context.print(`Total reclaimed space: ${formatSize(reclaimedBytes)}\n`);
    return exitCodes.ok;
  },
};
