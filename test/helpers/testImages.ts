import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { silentLog } from '../../src/base/log.ts';
import type { Unpacker, UnpackRequest } from '../../src/image/imageDisk.ts';
import { Images, type ImagesDeps } from '../../src/image/images.ts';
import type { LayerExtent } from '../../src/image/plainLayers.ts';
import { hostPlatform } from '../../src/image/platform.ts';

export const never = new AbortController().signal;

/** The image room below `root`, with nothing built in unless told. */
export async function openTestImages(root: string, overrides: Partial<ImagesDeps> = {}): Promise<Images> {
  const directory = join(root, 'images');
  await mkdir(directory, { recursive: true });
  return await Images.open({
    directory,
    log: silentLog,
    nowMs: Date.now,
    freeBytes: async () => 2 ** 50,
    containersOf: () => [],
    platform: hostPlatform(),
    builtIn: new Map(),
    diskBytes: 64 * 1024 * 1024,
    maxLayerBytes: 2 ** 36,
    ...overrides,
  });
}

interface RecordedUnpacking extends Omit<UnpackRequest, 'layers'> {
  readonly layers: readonly LayerExtent[];
  readonly tars: readonly Buffer[];
}

export interface RecordingUnpacker extends Unpacker {
  readonly requests: readonly RecordedUnpacking[];
}

/** Keeps what it was asked to unpack; `then` runs before it is done. */
export function recordingUnpacker(
  then: (request: UnpackRequest, signal: AbortSignal) => Promise<void> = async () => {},
): RecordingUnpacker {
  const requests: RecordedUnpacking[] = [];
  return {
    requests,
    unpack: async (request, signal) => {
      const layers = await Promise.all(request.layers);
      const source = await readFile(request.sourcePath);
      const tars = layers.map(({ offset, length }) => source.subarray(offset, offset + length));
      requests.push({ ...request, layers, tars });
      await then(request, signal);
    },
  };
}

/** Every file below the image room except index.json, as paths: what a failure may have left behind. */
export async function filesOf(root: string): Promise<readonly string[]> {
  const entries = await readdir(join(root, 'images'), { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name !== 'index.json')
    .map((entry) => join(entry.parentPath, entry.name).slice(join(root, 'images/').length))
    .sort();
}
