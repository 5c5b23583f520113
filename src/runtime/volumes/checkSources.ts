import { constants } from 'node:fs';
import { errnoOf, HrunError, isHrunError } from '../../base/errors.ts';
import type { CallerFiles, CallerStat } from '../callerFiles.ts';
import type { CreateRequest } from '../runRequest.ts';

/**
 * Looks at the caller's files that a container is to have. Disks are called by their real names from here on: a link that
 * takes the place of one later is not followed.
 * @throws HrunError INVALID_ARGUMENT for what is missing or of the wrong kind
 */
export async function checkSources(
  { binds, disks }: Pick<CreateRequest, 'binds' | 'disks'>,
  files: CallerFiles,
  signal: AbortSignal,
): Promise<Pick<CreateRequest, 'disks'>> {
  for (const { source, create } of binds) {
    if (!create) await statOf(source, 'bind', files, signal);
  }
  const found: CreateRequest['disks'][number][] = [];
  for (const disk of disks) {
    const { mode, realPath } = await statOf(disk.source, 'disk', files, signal);
    const kind = mode & constants.S_IFMT;
    if (kind !== constants.S_IFREG && kind !== constants.S_IFBLK) {
      throw new HrunError('INVALID_ARGUMENT', `${disk.source} is neither a regular file nor a block device`, {
        ...(kind === constants.S_IFDIR && { hint: 'mount a directory with --volume or type=bind' }),
      });
    }
    found.push({ ...disk, source: realPath });
  }
  return { disks: found };
}

async function statOf(
  source: string,
  type: 'bind' | 'disk',
  files: CallerFiles,
  signal: AbortSignal,
): Promise<CallerStat> {
  try {
    return await files.stat(source, { followLink: true }, signal);
  } catch (cause) {
    if (!isHrunError(cause, 'HAND_FAILED') || errnoOf(cause.cause) !== 'ENOENT') throw cause;
    // Docker's words
    throw new HrunError(
      'INVALID_ARGUMENT',
      `invalid mount config for type "${type}": ${type} source path does not exist: ${source}`,
      { cause },
    );
  }
}
