import { HrunError, isHrunError } from '../../base/errors.ts';
import { counted } from '../../base/text.ts';
import type { Engine } from '../../runtime/engine.ts';
import type { Context } from '../deps.ts';
import { exitCodes } from '../exitCodes.ts';
import type { Verb } from '../verb.ts';

interface StopFlags {
  readonly force?: true;
}

export const daemonStop: Verb = {
  configure(command) {
    command.option('-f, --force', 'Kill the containers that run');
  },

  async run(command, context) {
    const engine = await engineIfAny(context);
    const running = engine?.system.running() ?? [];
    if (running.length > 0) {
      if (command.opts<StopFlags>().force !== true) {
        throw new HrunError('WRONG_STATE', `${counted(running.length, 'container')} still running`, {
          hint: 'stop them first, or kill them with --force',
        });
      }
      await engine?.system.killAll();
    }
    context.deps.daemon.stop(context.session);
    return exitCodes.ok;
  },
};

/** A daemon whose engine never started can be stopped as well. */
async function engineIfAny({ deps }: Context): Promise<Engine | undefined> {
  try {
    return await deps.engine();
  } catch (error) {
    if (!isHrunError(error)) throw error;
    return undefined;
  }
}
