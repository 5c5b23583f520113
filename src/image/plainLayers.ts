import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { HrunError, isHrunError } from '../base/errors.ts';
import { type Digest, parseDigest } from '../base/ids.ts';
import { formatSize } from '../base/units.ts';
import type { BlobStore } from './blobStore.ts';
import { DecompressionError, decompress } from './decompress.ts';
import { diskFull, explainDiskFull, type FreeBytes } from './diskFull.ts';
import type { ImageLayer } from './imageIndex.ts';
import { type ImageProgress, shortDigest } from './progress.ts';

const blockBytes = 512;
/** How often free space is asked for. */
const checkEveryBytes = 64 * 1024 * 1024;
/** Left to others: a full file system takes more than hrun down. */
const reserveBytes = 32 * 1024 * 1024;

/** Where one uncompressed layer lies in the file. */
export interface LayerExtent {
  /** A multiple of 512. */
  readonly offset: number;
  readonly length: number;
  /** Of the uncompressed layer. */
  readonly digest: Digest;
}

export interface PlainLayersRequest {
  readonly layers: readonly ImageLayer[];
  /** Names the image in errors. */
  readonly subject: string;
  readonly path: string;
  readonly maxLayerBytes: number;
  readonly freeBytes: FreeBytes;
  readonly progress: ImageProgress;
}

/**
 * Decompresses layers into one new file, one after the other, each checked against its diff id and padded to 512. The
 * file is the caller's to remove, after a failure too.
 * @throws HrunError LAYER_CORRUPT, DISK_FULL
 */
export async function writePlainLayers(
  blobs: BlobStore,
  request: PlainLayersRequest,
  signal: AbortSignal,
): Promise<readonly LayerExtent[]> {
  const extents: LayerExtent[] = [];
  try {
    await using file = await open(request.path, 'wx', 0o600);
    let offset = 0;
    for (const layer of request.layers) {
      const length = await writeLayer(blobs, file, layer, offset, request, signal);
      extents.push({ offset, length, digest: layer.diffId });
      offset += Math.ceil(length / blockBytes) * blockBytes;
      await file.truncate(offset);
    }
  } catch (cause) {
    signal.throwIfAborted();
    throw explainDiskFull(cause, blobs.directory, `to decompress ${request.subject}`);
  }
  return extents;
}

async function writeLayer(
  blobs: BlobStore,
  file: FileHandle,
  layer: ImageLayer,
  offset: number,
  request: PlainLayersRequest,
  signal: AbortSignal,
): Promise<number> {
  const { subject, maxLayerBytes, progress } = request;
  const name = `layer ${shortDigest(layer.digest)} of ${subject}`;
  const hash = createHash('sha256');
  let length = 0;
  let checked = Number.NEGATIVE_INFINITY;
  try {
    for await (const chunk of decompress(blobs.stream(layer.digest))) {
      signal.throwIfAborted();
      if (length + chunk.length > maxLayerBytes) {
        throw corrupt(name, `it expands to more than ${formatSize(maxLayerBytes)}`);
      }
      if (length - checked >= checkEveryBytes) {
        await checkSpace(request, offset + length + chunk.length);
        checked = length;
      }
      hash.update(chunk);
      await writeAllAt(file, chunk, offset + length);
      length += chunk.length;
      progress.part(shortDigest(layer.digest), 'Decompressing', { current: length, unit: 'bytes' });
    }
  } catch (cause) {
    if (isHrunError(cause) || !(cause instanceof DecompressionError)) throw cause;
    throw corrupt(name, cause.message, cause);
  }
  const diffId = parseDigest(`sha256:${hash.digest('hex')}`);
  if (diffId !== layer.diffId)
    throw corrupt(name, `its content is ${diffId}, but the image tells of ${layer.diffId}`);
  return length;
}

/** As much again as was decompressed will be needed for the files themselves. */
async function checkSpace(
  { path, freeBytes, subject }: PlainLayersRequest,
  plainBytes: number,
): Promise<void> {
  const free = await freeBytes(path);
  const neededBytes = plainBytes + reserveBytes;
  if (free >= neededBytes) return;
  throw diskFull(
    `unpacking ${subject} needs at least ${formatSize(neededBytes)} more, where ${formatSize(free)} are free`,
  );
}

async function writeAllAt(file: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < chunk.length; ) {
    const { bytesWritten } = await file.write(chunk, done, chunk.length - done, position + done);
    done += bytesWritten;
  }
}

function corrupt(name: string, why: string, cause?: unknown): HrunError {
  return new HrunError('LAYER_CORRUPT', `${name} is damaged: ${why}`, {
    ...(cause !== undefined && { cause }),
    hint: 'remove the image and get it again; if that does not help, it was built wrong',
  });
}
