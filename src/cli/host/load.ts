import { openCaller } from '../caller.ts';
import { exitCodes } from '../exitCodes.ts';
import { familiarRepository } from '../render/imageRows.ts';
import type { Verb } from '../verb.ts';
import { openLoadSource } from './loadSource.ts';

interface LoadFlags {
  readonly input?: string;
  readonly quiet?: true;
}

export const load: Verb = {
  configure(command) {
    command.option(
      '-i, --input <path>',
      'Read from a file, or the directory of an OCI layout, instead of stdin',
    );
    command.option('-q, --quiet', 'Do not show progress');
  },

  async run(command, context) {
    const { input, quiet = false } = command.opts<LoadFlags>();
    using caller = openCaller(context, { quiet });
    await using opened = await openLoadSource(input, context.session);
    const engine = await context.deps.engine();
    const loaded = await engine.images.load(opened.source, caller, context.signal);
    caller.progress.stop();
    const lines = loaded.map(({ id, reference }) =>
      reference === undefined
        ? `Loaded image ID: ${id}\n`
        : `Loaded image: ${familiarRepository(reference)}\n`,
    );
    await context.print(lines.join(''));
    return exitCodes.ok;
  },
};
