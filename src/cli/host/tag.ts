import { exitCodes } from '../exitCodes.ts';
import type { Verb } from '../verb.ts';

export const tag: Verb = {
  configure() {},

  async run(command, context) {
    const [image = '', newName = ''] = command.args;
    const engine = await context.deps.engine();
    await engine.images.tag(image, newName, context.signal);
    return exitCodes.ok;
  },
};
