import { execFile } from 'node:child_process';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { errnoOf, HrunError, messageOf } from '../base/errors.ts';
import { copySparse } from '../sys/sparseCopy.ts';

const run = promisify(execFile);

export interface ScratchDiskRequest {
  readonly path: string;
  readonly sizeBytes: number;
  /** Survives a VM that is killed in the middle of a write; a container that is removed at its end needs none. */
  readonly journal: boolean;
}

/**
 * Makes the empty ext4 disk that a container writes to: a sparse copy of one made once per size and kept in
 * `cacheDirectory`. Nothing is left at `path` on failure.
 * @throws HrunError DISK_FULL, or INTERNAL when mkfs.ext4 fails or is missing
 */
export async function createScratchDisk(
  { path, sizeBytes, journal }: ScratchDiskRequest,
  cacheDirectory: string,
  signal: AbortSignal,
): Promise<void> {
  const model = join(cacheDirectory, `scratch-${sizeBytes}${journal ? '-journal' : ''}.ext4`);
  const unfinished = `${path}.new`;
  try {
    if (!(await exists(model))) await makeModel(model, sizeBytes, journal, cacheDirectory, signal);
    await copySparse(model, unfinished, signal);
    await rename(unfinished, path);
  } catch (cause) {
    await rm(unfinished, { force: true });
    signal.throwIfAborted();
    if (cause instanceof HrunError) throw cause;
    const full = errnoOf(cause) === 'ENOSPC';
    throw new HrunError(
      full ? 'DISK_FULL' : 'INTERNAL',
      `cannot make the scratch disk ${path}: ${messageOf(cause)}`,
      {
        cause,
        ...(full && { hint: 'free some space below the root directory (see hrun info)' }),
      },
    );
  }
}

async function makeModel(
  model: string,
  sizeBytes: number,
  journal: boolean,
  cacheDirectory: string,
  signal: AbortSignal,
): Promise<void> {
  await mkdir(cacheDirectory, { recursive: true, mode: 0o700 });
  const temporary = `${model}.${process.pid}.${process.hrtime.bigint()}`;
  try {
    {
      await using file = await open(temporary, 'wx', 0o600);
      await file.truncate(sizeBytes);
    }
    const features = journal
      ? ['-O', '^resize_inode,^metadata_csum,uninit_bg', '-J', 'size=8']
      : ['-O', '^resize_inode,^metadata_csum,uninit_bg,^has_journal'];
    const extended = 'nodiscard,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0';
    const options = ['-q', '-F', '-m', '0', ...features, '-E', extended];
    await run('mkfs.ext4', [...options, temporary], {
      signal,
      env: { PATH: '/usr/sbin:/sbin:/usr/bin:/bin' },
    });
    await rename(temporary, model);
  } catch (cause) {
    await rm(temporary, { force: true });
    if (errnoOf(cause) !== 'ENOENT') throw cause;
    throw new HrunError('INTERNAL', 'mkfs.ext4 is missing', { cause, hint: 'install e2fsprogs' });
  }
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    (error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return false;
      throw error;
    },
  );
}
