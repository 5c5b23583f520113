import { exitCodes } from '../exitCodes.ts';
import { parseContainerName } from '../parse/limits.ts';
import type { Verb } from '../verb.ts';

export const rename: Verb = {
  configure() {},

  async run(command, context) {
    const [container = '', newName = ''] = command.args;
    const name = parseContainerName(newName);
    const engine = await context.deps.engine();
    await engine.containers.rename(container, name, context.signal);
    return exitCodes.ok;
  },
};
