import { type FileHandle, open } from 'node:fs/promises';
import { libc, systemError } from './libc.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;
const EAGAIN = 11;

/**
 * Takes the exclusive flock(2) on `path`, creating the file, without waiting: undefined when another holds it.
 * Disposing gives it back; so does the end of this process, however it comes.
 */
export async function tryLockFile(path: string): Promise<AsyncDisposable | undefined> {
  await using undo = new AsyncDisposableStack();
  const file = undo.adopt(await open(path, 'a', 0o600), (f: FileHandle) => f.close());
  const { flock, errno } = libc();
  if (flock(file.fd, LOCK_EX | LOCK_NB) !== 0) {
    if (errno() === EAGAIN) return undefined;
    throw systemError('flock', path);
  }
  return undo.move();
}
