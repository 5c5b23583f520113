import { isHrunError } from '../../base/errors.ts';
import { exitCodes } from '../exitCodes.ts';
import { forEachTarget } from '../targets.ts';
import type { Verb } from '../verb.ts';

export const networkRm: Verb = {
  configure(command) {
    command.option('-f, --force', 'No error for what is not there');
  },

  async run(command, context) {
    const { force } = command.opts<{ readonly force?: true }>();
    const { networks } = await context.deps.engine();
    return forEachTarget(command.args, context, async (name) => {
      try {
        await networks.remove(name);
        return name;
      } catch (error) {
        if (force !== true || !isHrunError(error, 'NOT_FOUND')) throw error;
        return undefined;
      }
    });
  },
};

export const networkPrune: Verb = {
  configure(command) {
    command.option('-f, --force', 'Do not ask (it never does)');
  },

  async run(_command, context) {
    const { networks } = await context.deps.engine();
    const names = await networks.prune();
    if (names.length > 0) await context.print(`Deleted Networks:\n${names.join('\n')}\n\n`);
    return exitCodes.ok;
  },
};
