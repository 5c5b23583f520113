import { isHrunError } from '../../base/errors.ts';
import { familiarRepository } from '../render/imageRows.ts';
import { forEachTarget } from '../targets.ts';
import type { Verb } from '../verb.ts';

interface RmiFlags {
  readonly force?: true;
}

export const rmi: Verb = {
  configure(command) {
    command.option('-f, --force', 'Remove also what stopped containers use; no error for what is not there');
  },

  async run(command, context) {
    const force = command.opts<RmiFlags>().force === true;
    const engine = await context.deps.engine();
    return forEachTarget(command.args, context, async (image) => {
      try {
        const { untagged, deleted } = await engine.images.remove(image, { force }, context.signal);
        return removalLines(untagged, deleted).join('\n');
      } catch (error) {
        if (!force || !isHrunError(error, 'IMAGE_UNKNOWN')) throw error;
        return undefined;
      }
    });
  },
};

export function removalLines(untagged: readonly string[], deleted: readonly string[]): string[] {
  return [
    ...untagged.map((name) => `Untagged: ${familiarRepository(name)}`),
    ...deleted.map((id) => `Deleted: ${id}`),
  ];
}
