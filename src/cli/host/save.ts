import { Option } from 'commander';
import { HrunError } from '../../base/errors.ts';
import { exitCodes } from '../exitCodes.ts';
import { saveToFile } from '../saveToFile.ts';
import type { Verb } from '../verb.ts';

interface SaveFlags {
  readonly format: 'docker-archive' | 'oci-archive';
  readonly output?: string;
}

export const save: Verb = {
  configure(command) {
    const format = new Option('--format <format>', 'Kind of archive');
    command.addOption(format.choices(['docker-archive', 'oci-archive']).default('docker-archive'));
    command.option('-o, --output <path>', 'Write to a file instead of stdout');
  },

  async run(command, context) {
    const { format, output } = command.opts<SaveFlags>();
    const { session, signal } = context;
    if (output === undefined && session.isTerminal.stdout) {
      throw new HrunError('INVALID_ARGUMENT', 'refusing to write an archive to a terminal', {
        hint: 'name a file with -o, or redirect stdout',
      });
    }
    const engine = await context.deps.engine();
    const bytes = engine.images.save({ images: command.args, format }, signal);
    if (output === undefined) for await (const chunk of bytes) await session.stdout.write(chunk, signal);
    else {
      await saveToFile(output, context, async (write) => {
        for await (const chunk of bytes) await write(chunk);
      });
    }
    return exitCodes.ok;
  },
};
