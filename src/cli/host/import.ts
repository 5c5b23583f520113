import { HrunError } from '../../base/errors.ts';
import { openCaller } from '../caller.ts';
import { exitCodes } from '../exitCodes.ts';
import { addList, checked } from '../flags.ts';
import { parsePlatform } from '../parse/limits.ts';
import type { Verb } from '../verb.ts';
import { openLoadSource } from './loadSource.ts';

interface ImportFlags {
  readonly change: readonly string[];
  readonly message?: string;
  readonly platform?: ReturnType<typeof parsePlatform>;
}

export const importImage: Verb = {
  configure(command) {
    addList(
      command,
      '-c, --change <instruction>',
      'Apply an instruction: CMD, ENV, ENTRYPOINT, USER, WORKDIR, LABEL …',
    );
    command.option('-m, --message <text>', 'Comment of the image');
    command.option('--platform <platform>', 'Platform of the image', checked(parsePlatform));
  },

  async run(command, context) {
    const { change, message, platform } = command.opts<ImportFlags>();
    const [file = '', reference] = command.args;
    using caller = openCaller(context);
    await using opened = await openLoadSource(file, context.session);
    const { source } = opened;
    if (source.kind !== 'stream') {
      throw new HrunError('INVALID_ARGUMENT', `${file} is a directory, not a tar`, {
        hint: `tar -C ${file} -c . | hrun import - NAME`,
      });
    }
    const engine = await context.deps.engine();
    const request = {
      source,
      changes: change,
      ...(reference !== undefined && { reference }),
      ...(message !== undefined && { message }),
      ...(platform !== undefined && { platform }),
    };
    const id = await engine.images.import(request, caller, context.signal);
    caller.progress.stop();
    await context.print(`${id}\n`);
    return exitCodes.ok;
  },
};
