import { HrunError } from '../../base/errors.ts';
import { openCaller } from '../caller.ts';
import { exitCodes } from '../exitCodes.ts';
import { saveToFile } from '../saveToFile.ts';
import type { Verb } from '../verb.ts';
import { openLoadSource } from './loadSource.ts';

export const volumeExport: Verb = {
  configure(command) {
    command.option('-o, --output <path>', 'Write to a file instead of stdout');
  },

  async run(command, context) {
    const { output } = command.opts<{ readonly output?: string }>();
    const [name = ''] = command.args;
    const { session, signal } = context;
    if (output === undefined && session.isTerminal.stdout) {
      throw new HrunError('INVALID_ARGUMENT', 'refusing to write an archive to a terminal', {
        hint: 'name a file with -o, or redirect stdout',
      });
    }
    using caller = openCaller(context);
    const { volumes } = await context.deps.engine();
    if (output === undefined) {
      await volumes.export(name, (bytes, until) => session.stdout.write(bytes, until), caller, signal);
    } else {
      await saveToFile(output, context, (write) => volumes.export(name, write, caller, signal));
    }
    return exitCodes.ok;
  },
};

export const volumeImport: Verb = {
  configure() {},

  async run(command, context) {
    const [name = '', path] = command.args;
    using caller = openCaller(context);
    const { volumes } = await context.deps.engine();
    // before stdin is read
    volumes.inspect(name);
    await using opened = await openLoadSource(path, context.session);
    if (opened.source.kind !== 'stream') {
      throw new HrunError('INVALID_ARGUMENT', `${path} is a directory, not an archive`);
    }
    await volumes.import(name, opened.source.bytes, caller, context.signal);
    return exitCodes.ok;
  },
};
