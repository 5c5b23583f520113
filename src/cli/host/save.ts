import { Option } from 'commander';
import { HrunError, isHrunError } from '../../base/errors.ts';
import type { Context } from '../deps.ts';
import { exitCodes } from '../exitCodes.ts';
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
    if (output !== undefined) await saveToFile(output, bytes, context);
    else for await (const chunk of bytes) await session.stdout.write(chunk, signal);
    return exitCodes.ok;
  },
};

/** Beside the name and renamed at the end, so that a half archive never has the name. */
async function saveToFile(path: string, bytes: AsyncIterable<Uint8Array>, context: Context): Promise<void> {
  const { files, signal } = context.session;
  const temporary = `${path}.${process.hrtime.bigint().toString(36)}.partial`;
  await using undo = new AsyncDisposableStack();
  const file = undo.use(
    await files.openWrite(temporary, { exclusive: true, mode: 0o600 }, signal).catch((cause: unknown) => {
      // The name of the half archive is nothing to the user.
      if (!isHrunError(cause, 'HAND_FAILED')) throw cause;
      throw new HrunError('HAND_FAILED', cause.message.replaceAll(temporary, path), { cause });
    }),
  );
  let whole = false;
  try {
    for await (const chunk of bytes) await file.write(chunk, signal);
    await file.close(signal);
    await files.rename(temporary, path, signal);
    whole = true;
  } finally {
    if (!whole && !signal.aborted) await files.unlink(temporary, signal).catch(() => {});
  }
}
