import { Option } from 'commander';
import { forEachTarget } from '../targets.ts';
import type { Verb } from '../verb.ts';

interface WaitFlags {
  readonly condition: 'not-running' | 'next-exit' | 'removed';
}

export const wait: Verb = {
  configure(command) {
    const option = new Option('--condition <condition>', 'What to wait for');
    command.addOption(option.choices(['not-running', 'next-exit', 'removed']).default('not-running'));
  },

  async run(command, context) {
    const { condition } = command.opts<WaitFlags>();
    const engine = await context.deps.engine();
    return forEachTarget(command.args, context, async (container) =>
      String(await engine.containers.wait(container, condition, context.signal)),
    );
  },
};
