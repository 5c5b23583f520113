import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, HrunError, messageOf } from '../base/errors.ts';
import { exists } from '../base/exists.ts';
import { makeExt4 } from '../image/ext4.ts';
import { copySparse } from '../sys/sparseCopy.ts';

const journalMiB = 8;

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
    const shape = { sizeBytes, label: 'hrun-scratch', ...(journal && { journalMiB }) };
    await makeExt4(temporary, shape, signal);
    await rename(temporary, model);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw cause;
  }
}
