import { formatSize } from '../../base/units.ts';
import { exitCodes } from '../exitCodes.ts';
import type { Verb } from '../verb.ts';
import { removalLines } from './rmi.ts';

interface PruneFlags {
  readonly all?: true;
}

export const imagePrune: Verb = {
  configure(command) {
    command.option('-a, --all', 'Remove every image that no container uses, not only those without a name');
    command.option('-f, --force', 'Do not ask (it never does)');
  },

  async run(command, context) {
    const all = command.opts<PruneFlags>().all === true;
    const engine = await context.deps.engine();
    const { untagged, deleted, reclaimedBytes } = await engine.images.prune({ all }, context.signal);
    const lines = removalLines(untagged, deleted);
    const list = lines.length === 0 ? '' : `Deleted Images:\n${lines.join('\n')}\n\n`;
    await context.print(`${list}Total reclaimed space: ${formatSize(reclaimedBytes)}\n`);
    return exitCodes.ok;
  },
};
