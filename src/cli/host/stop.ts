import { integerOption, parseSignal } from '../flags.ts';
import { forEachTarget } from '../targets.ts';
import type { Verb } from '../verb.ts';

export interface StopFlags {
  readonly signal?: string;
  readonly time?: number;
}

export const stop: Verb = {
  configure(command) {
    command.option('-s, --signal <signal>', 'Signal to send');
    command.option(
      '-t, --time <seconds>',
      'How long to wait before killing; -1: for ever',
      integerOption(-1),
    );
  },

  async run(command, context) {
    const options = stopOptions(command.opts<StopFlags>());
    const engine = await context.deps.engine();
    return forEachTarget(command.args, context, async (container) => {
      await engine.containers.stop(container, options, context.signal);
      return container;
    });
  },
};

/** @throws HrunError INVALID_ARGUMENT for a signal that there is not */
export function stopOptions({ signal, time }: StopFlags): {
  readonly timeoutS?: number;
  readonly signalNumber?: number;
} {
  return {
    ...(time !== undefined && { timeoutS: time }),
    ...(signal !== undefined && { signalNumber: parseSignal(signal) }),
  };
}
