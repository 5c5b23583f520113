import { HrunError, isHrunError } from '../base/errors.ts';
import type { Context } from './deps.ts';

/** Beside the name and renamed at the end, so that a half file never has the name. */
export async function saveToFile(
  path: string,
  context: Context,
  work: (write: (bytes: Uint8Array) => Promise<void>) => Promise<void>,
): Promise<void> {
  const { files, signal } = context.session;
  const temporary = `${path}.${process.hrtime.bigint().toString(36)}.partial`;
  await using undo = new AsyncDisposableStack();
  const file = undo.use(
    await files.openWrite(temporary, { exclusive: true, mode: 0o600 }, signal).catch((cause: unknown) => {
      // The name of the half file is nothing to the user.
      if (!isHrunError(cause, 'HAND_FAILED')) throw cause;
      throw new HrunError('HAND_FAILED', cause.message.replaceAll(temporary, path), { cause });
    }),
  );
  let whole = false;
  try {
    await work((bytes) => file.write(bytes, signal));
    await file.close(signal);
    await files.rename(temporary, path, signal);
    whole = true;
  } finally {
    if (!whole && !signal.aborted) await files.unlink(temporary, signal).catch(() => {});
  }
}
