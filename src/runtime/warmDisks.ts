import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../base/errors.ts';
import { newVmId } from '../base/ids.ts';
import { makeExt4 } from '../image/ext4.ts';
import type { WarmDisks, WritableDisk } from '../pool/warmGuest.ts';
import { createScratchDisk } from './scratchDisk.ts';

const imageBytes = 8 * 1024 * 1024;

/** The disks of the container that warms a guest up: of the same make as every container's, with nothing on them. */
export function warmDisks(cacheDirectory: string, storageBytes: number): WarmDisks {
  const writable = async (journal: boolean, signal: AbortSignal): Promise<WritableDisk> => {
    const path = join(cacheDirectory, `warm-${newVmId()}.raw`);
    await createScratchDisk({ path, sizeBytes: storageBytes, journal }, cacheDirectory, signal);
    return { path, [Symbol.asyncDispose]: () => rm(path, { force: true }) };
  };
  return {
    async image(signal) {
      const path = join(cacheDirectory, 'warm-image.ext4');
      await makeOnce(path, signal);
      return path;
    },
    scratch: (signal) => writable(false, signal),
    // whether its container will be kept is not known yet
    ready: (signal) => writable(true, signal),
  };
}

/** Removes what a daemon that died left of them. */
export async function removeWarmDisks(cacheDirectory: string): Promise<void> {
  for (const name of await readdir(cacheDirectory)) {
    if (/^warm-[0-9a-f]{32}\.raw(\.new)?$/.test(name)) await rm(join(cacheDirectory, name), { force: true });
  }
}

async function makeOnce(path: string, signal: AbortSignal): Promise<void> {
  try {
    await stat(path);
    return;
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
  const unfinished = `${path}.${newVmId()}`;
  try {
    await makeExt4(unfinished, { sizeBytes: imageBytes, label: 'hrun-warm' }, signal);
    await rename(unfinished, path);
  } finally {
    await rm(unfinished, { force: true });
  }
}
