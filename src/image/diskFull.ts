import { statfs } from 'node:fs/promises';
import { errnoOf, HrunError } from '../base/errors.ts';

/** Bytes that an unprivileged process may still write to the file system of `path`. */
export type FreeBytes = (path: string) => Promise<number>;

export const freeBytesOf: FreeBytes = async (path) => {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
};

/** Turns "no space left" and "quota exceeded" into DISK_FULL; any other error is answered as it is. */
export function explainDiskFull(cause: unknown, directory: string, what: string): unknown {
  const errno = errnoOf(cause);
  if (errno !== 'ENOSPC' && errno !== 'EDQUOT') return cause;
  return diskFull(`no space is left in ${directory} ${what}`, cause);
}

export function diskFull(message: string, cause?: unknown): HrunError {
  return new HrunError('DISK_FULL', message, {
    ...(cause !== undefined && { cause }),
    hint: 'free some space (hrun image prune helps), or move hrun elsewhere with HRUN_ROOT',
  });
}
