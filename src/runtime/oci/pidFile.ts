import { posix } from 'node:path';
import { HrunError } from '../../base/errors.ts';
import type { CallerFiles } from '../callerFiles.ts';

/**
 * Writes digits and nothing else, complete from the first moment that the file has its name.
 * @throws HrunError HAND_FAILED
 */
export async function writePidFile(
  path: string,
  pid: number,
  files: CallerFiles,
  signal: AbortSignal,
): Promise<void> {
  const { dir, base } = posix.parse(path);
  if (base === '') throw new HrunError('INVALID_ARGUMENT', `the pid-file "${path}" has no name`);
  const temporary = posix.join(dir, `.${base}`);
  try {
    await using file = await files.openWrite(temporary, { exclusive: false, mode: 0o666 }, signal);
    await file.write(Buffer.from(String(pid)), signal);
    await file.close(signal);
    await files.rename(temporary, path, signal);
  } catch (error) {
    await files.unlink(temporary, AbortSignal.timeout(1000)).catch(() => {});
    throw error;
  }
}
