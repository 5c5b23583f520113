import { constants } from 'node:os';
import { parseSignal } from '../flags.ts';
import { forEachTarget } from '../targets.ts';
import type { Verb } from '../verb.ts';

export const kill: Verb = {
  configure(command) {
    command.option('-s, --signal <signal>', 'Signal to send (default: KILL)');
  },

  async run(command, context) {
    const text = command.opts<{ readonly signal?: string }>().signal;
    const signal = text === undefined ? constants.signals.SIGKILL : parseSignal(text);
    const engine = await context.deps.engine();
    return forEachTarget(command.args, context, async (container) => {
      await engine.containers.kill(container, signal, context.signal);
      return container;
    });
  },
};
