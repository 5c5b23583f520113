import { isHrunError } from '../../base/errors.ts';
import { describeError } from '../printError.ts';
import { forEachTarget } from '../targets.ts';
import type { Verb } from '../verb.ts';

interface RmFlags {
  readonly force?: true;
  readonly volumes?: true;
}

export const rm: Verb = {
  configure(command) {
    command.option('-f, --force', 'Kill what runs; no error for what is not there');
    command.option('-v, --volumes', 'Remove its anonymous volumes, too');
  },

  async run(command, context) {
    const { force = false, volumes = false } = command.opts<RmFlags>();
    const engine = await context.deps.engine();
    return forEachTarget(command.args, context, async (container) => {
      try {
        await engine.containers.remove(container, { force, volumes }, context.signal);
      } catch (error) {
        if (!force || !isHrunError(error, 'NOT_FOUND')) throw error;
        await context.complain(describeError(error));
        return undefined;
      }
      return container;
    });
  },
};
