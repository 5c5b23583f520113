import { isHrunError } from '../../base/errors.ts';
import type { CallerFiles } from '../../runtime/callerFiles.ts';

/** Without `--root`. */
export const defaultScope = 'default';

/**
 * What `--root` stands for: not its name, which two managers in different mount namespaces may both use, but the
 * directory itself. `make`: create it when it is missing, as runc does.
 */
export async function scopeOf(
  root: string | undefined,
  make: boolean,
  files: CallerFiles,
  signal: AbortSignal,
): Promise<string> {
  if (root === undefined) return defaultScope;
  if (make) await files.makeDirectory(root, 0o700, signal);
  try {
    const { device, inode } = await files.stat(root, { followLink: true }, signal);
    return `${device}:${inode}`;
  } catch (error) {
    signal.throwIfAborted();
    if (!isHrunError(error, 'HAND_FAILED')) throw error;
    return 'none';
  }
}
