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
  /** Of the layer as the image has it. */
  readonly digest: Digest;
}

export interface PlainLayersRequest {
  readonly layers: readonly ImageLayer[];
  /** Names the image in errors. */
  readonly subject: string;
  /** Exists, and has the size of `maxBytes`. */
  readonly path: string;
  readonly maxLayerBytes: number;
  /** For all layers together. */
  readonly maxBytes: number;
  readonly freeBytes: FreeBytes;
  readonly progress: ImageProgress;
}

/** Layers that are being decompressed. Disposing stops it. */
export interface PlainLayers extends AsyncDisposable {
  /** In order; each comes true when the layer is whole in the file and checked. */
  readonly extents: readonly Promise<LayerExtent>[];
}

/**
 * Begins to decompress layers into a file, one after the other, each checked against its diff id and starting at a
 * multiple of 512. The file is the caller's to remove. What fails, fails the layer and all after it, with HrunError
 * LAYER_CORRUPT or DISK_FULL.
 */
export function startPlainLayers(
  blobs: BlobStore,
  request: PlainLayersRequest,
  signal: AbortSignal,
): PlainLayers {
  const stop = new AbortController();
  const pending = request.layers.map(() => Promise.withResolvers<LayerExtent>());
  for (const { promise } of pending) promise.catch(() => {}); // nobody may ask for it
  const writing = writePlainLayers(blobs, request, AbortSignal.any([signal, stop.signal]), (extent, index) =>
    pending[index]?.resolve(extent),
  ).catch((error: unknown) => {
    for (const { reject } of pending) reject(error);
  });
  return {
    extents: pending.map(({ promise }) => promise),
    async [Symbol.asyncDispose]() {
      stop.abort();
      await writing;
    },
  };
}

async function writePlainLayers(
  blobs: BlobStore,
  request: PlainLayersRequest,
  signal: AbortSignal,
  ready: (extent: LayerExtent, index: number) => void,
): Promise<void> {
  try {
    await using file = await open(request.path, 'r+');
    let offset = 0;
    for (const [index, layer] of request.layers.entries()) {
      const length = await writeLayer(blobs, file, layer, offset, request, signal);
      ready({ offset, length, digest: layer.digest }, index);
      offset += Math.ceil(length / blockBytes) * blockBytes;
    }
  } catch (cause) {
    signal.throwIfAborted();
    throw explainDiskFull(cause, blobs.directory, `to decompress ${request.subject}`);
  }
}

async function writeLayer(
  blobs: BlobStore,
  file: FileHandle,
  layer: ImageLayer,
  offset: number,
  request: PlainLayersRequest,
  signal: AbortSignal,
): Promise<number> {
  const { subject, maxLayerBytes, maxBytes, progress } = request;
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
      if (offset + length + chunk.length > maxBytes) throw tooLarge(subject, maxBytes);
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

function tooLarge(subject: string, maxBytes: number): HrunError {
  return new HrunError(
    'DISK_FULL',
    `${subject} unpacks to more than the ${formatSize(maxBytes)} that an image's disk has`,
    { hint: 'raise imageDiskSize in the configuration' },
  );
}

function corrupt(name: string, why: string, cause?: unknown): HrunError {
  return new HrunError('LAYER_CORRUPT', `${name} is damaged: ${why}`, {
    ...(cause !== undefined && { cause }),
    hint: 'remove the image and get it again; if that does not help, it was built wrong',
  });
}
