import { constants } from 'node:os';
import { checked, parseSignal } from '../flags.ts';
import { forEachTarget } from '../targets.ts';
import type { Verb } from '../verb.ts';

export const kill: Verb = {
  configure(command) {
    command.option('-s, --signal <signal>', 'Signal to send (default: KILL)', checked(parseSignal));
  },

  async run(command, context) {
    const { signal = constants.signals.SIGKILL } = command.opts<{ readonly signal?: number }>();
    const engine = await context.deps.engine();
    return forEachTarget(command.args, context, async (container) => {
      await engine.containers.kill(container, signal, context.signal);
      return container;
    });
  },
};
