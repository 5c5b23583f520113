import { createHash } from 'node:crypto';
import { Header } from 'tar';
import { HrunError } from '../base/errors.ts';
import { type Digest, parseDigest } from '../base/ids.ts';
import { parseImageConfig } from '../oci/imageConfig.ts';
import { mediaTypes, parseManifest } from '../oci/imageManifest.ts';
import { DecompressionError, decompress, detectCompression } from './decompress.ts';
import { applyChanges } from './imageChanges.ts';
import type { Image, ImageStore } from './imageStore.ts';
import type { Platform } from './platform.ts';
import { recordOf } from './recordImage.ts';
import { parseReference } from './reference.ts';

export interface ImportRequest {
  readonly source: { readonly name: string; readonly bytes: AsyncIterable<Uint8Array> };
  /** Name for the new image. */
  readonly reference: string | undefined;
  readonly message: string | undefined;
  /** Lines of a Dockerfile. */
  readonly changes: readonly string[];
  readonly platform: Platform;
  readonly nowMs: number;
  readonly onBytes: (bytes: number) => void;
}

/**
 * Makes an image with one layer of the tar of a root filesystem, compressed with gzip or zstd or not at all. Its
 * entries are looked at when it is unpacked.
 * @throws HrunError INVALID_ARGUMENT, IMAGE_INVALID, DISK_FULL
 */
export async function importRoot(
  store: ImageStore,
  request: ImportRequest,
  signal: AbortSignal,
): Promise<Image> {
  const { source, platform } = request;
  const reference = request.reference === undefined ? undefined : parseReference(request.reference);
  if (reference?.digest !== undefined) {
    throw new HrunError('INVALID_ARGUMENT', `"${request.reference}" has a digest, which nobody can choose`);
  }
  const settings = applyChanges({}, request.changes);
  using hold = store.blobs.hold();
  const layer = await store.blobs.write(counted(request), { subject: source.name }, hold, signal);
  const { diffId, mediaType } = await examine(store, layer.digest, source.name, signal);

  const created = new Date(request.nowMs).toISOString();
  const comment = request.message ?? `Imported from ${source.name}`;
  const config = Buffer.from(
    JSON.stringify({
      created,
      os: platform.os,
      architecture: platform.architecture,
      config: settings,
      rootfs: { type: 'layers', diff_ids: [diffId] },
      history: [{ created, created_by: 'hrun import', comment }],
    }),
  );
  const parsed = parseImageConfig(config, 'the new config');
  const storedConfig = await store.blobs.write([config], { subject: 'the new config' }, hold, signal);
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: { mediaType: mediaTypes.ociConfig, ...storedConfig },
      layers: [{ mediaType, ...layer }],
    }),
  );
  const storedManifest = await store.blobs.write([manifest], { subject: 'the new manifest' }, hold, signal);
  const document = parseManifest(manifest, undefined, 'the new manifest');
  if (document.kind !== 'manifest') throw new HrunError('INTERNAL', 'made an index instead of a manifest');
  const names = { tags: reference === undefined ? [] : [reference], digests: [] };
  return await store.add(recordOf(document, storedManifest.digest, parsed), names, signal);
}

/** The digest of the plain tar, which must begin like one. */
async function examine(
  store: ImageStore,
  digest: Digest,
  name: string,
  signal: AbortSignal,
): Promise<{ readonly diffId: Digest; readonly mediaType: string }> {
  let mediaType: string | undefined;
  const hash = createHash('sha256');
  let start = Buffer.alloc(0);
  try {
    const blob = store.blobs.stream(digest);
    for await (const chunk of decompress(blob)) {
      signal.throwIfAborted();
      hash.update(chunk);
      if (start.length < 512) start = Buffer.concat([start, chunk.subarray(0, 512 - start.length)]);
    }
    for await (const chunk of store.blobs.stream(digest)) {
      const compression = detectCompression(chunk);
      mediaType = compression === 'gzip' ? mediaTypes.ociLayerGzip : mediaTypes.ociLayer;
      if (compression === 'zstd') mediaType = mediaTypes.ociLayerZstd;
      break;
    }
  } catch (cause) {
    signal.throwIfAborted();
    if (!(cause instanceof DecompressionError)) throw cause;
    throw noTar(name, cause.message, cause);
  }
  if (!isTar(start)) throw noTar(name, start.length < 512 ? 'it is too short' : 'it does not begin like one');
  return { diffId: parseDigest(`sha256:${hash.digest('hex')}`), mediaType: mediaType ?? mediaTypes.ociLayer };
}

function isTar(block: Buffer): boolean {
  if (block.length < 512) return false;
  if (block.every((byte) => byte === 0)) return true;
  try {
    return new Header(block).cksumValid;
  } catch {
    return false;
  }
}

function noTar(name: string, why: string, cause?: unknown): HrunError {
  return new HrunError('IMAGE_INVALID', `${name} is not the tar of a root filesystem: ${why}`, {
    ...(cause !== undefined && { cause }),
    hint: 'a plain, gzip or zstd tar is expected',
  });
}

async function* counted({ source, onBytes }: ImportRequest): AsyncGenerator<Uint8Array> {
  let total = 0;
  for await (const chunk of source.bytes) {
    total += chunk.length;
    onBytes(total);
    yield chunk;
  }
}
