import { openCaller } from '../caller.ts';
import { forEachTarget } from '../targets.ts';
import type { Verb } from '../verb.ts';
import { type StopFlags, stop, stopOptions } from './stop.ts';

export const restart: Verb = {
  configure: stop.configure,

  async run(command, context) {
    const options = stopOptions(command.opts<StopFlags>());
    using caller = openCaller(context);
    const engine = await context.deps.engine();
    return forEachTarget(command.args, context, async (container) => {
      await engine.containers.restart(container, options, caller, context.signal);
      return container;
    });
  },
};
