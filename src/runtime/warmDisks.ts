import { rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../base/errors.ts';
import { newVmId } from '../base/ids.ts';
import { makeExt4 } from '../image/ext4.ts';
import type { WarmDisks } from '../pool/warmGuest.ts';
import { createScratchDisk } from './scratchDisk.ts';

const imageBytes = 8 * 1024 * 1024;

/** The disks of the container that warms a guest up: of the same make as every container's, with nothing on them. */
export function warmDisks(cacheDirectory: string, storageBytes: number): WarmDisks {
  return {
    async image(signal) {
      const path = join(cacheDirectory, 'warm-image.ext4');
      await makeOnce(path, signal);
      return path;
    },
    async scratch(signal) {
      const path = join(cacheDirectory, `warm-${newVmId()}.raw`);
      await createScratchDisk({ path, sizeBytes: storageBytes, journal: false }, cacheDirectory, signal);
      return { path, [Symbol.asyncDispose]: () => rm(path, { force: true }) };
    },
  };
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
