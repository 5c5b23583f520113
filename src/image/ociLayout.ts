import { z } from 'zod';
import { HrunError, isHrunError } from '../base/errors.ts';
import { printable } from '../base/text.ts';
import { maxConfigBytes } from '../oci/imageConfig.ts';
import {
  check,
  type Descriptor,
  type ImageManifest,
  type IndexEntry,
  maxManifestBytes,
  parseJson,
  parseManifest,
} from '../oci/imageManifest.ts';
import type { BlobHold } from './blobStore.ts';
import type { Image, ImageStore } from './imageStore.ts';
import type { LayoutReader } from './layoutReader.ts';
import { choosePlatform, type Platform } from './platform.ts';
import { type ImageProgress, shortDigest } from './progress.ts';
import { readConfig, recordOf } from './recordImage.ts';
import { parseReference, type Reference } from './reference.ts';

const maxNestedIndexes = 2;
const layoutSchema = z.object({ imageLayoutVersion: z.string().startsWith('1.', 'is not 1.x') });
/** What containerd and docker ≥ 25 write; the other annotation is often a tag alone. */
const nameAnnotations = ['io.containerd.image.name', 'org.opencontainers.image.ref.name'];

export interface LoadOptions {
  readonly platform: Platform;
  readonly progress: ImageProgress;
  readonly hold: BlobHold;
}

/**
 * Stores every image of an OCI layout that is for this platform, under the names its index gives.
 * @throws HrunError IMAGE_INVALID, DIGEST_MISMATCH, PLATFORM_MISMATCH when there is none for it, DISK_FULL
 */
export async function loadOciLayout(
  store: ImageStore,
  reader: LayoutReader,
  options: LoadOptions,
  signal: AbortSignal,
): Promise<readonly Image[]> {
  const layout = await reader.readFile('oci-layout', 4096, signal);
  check(layoutSchema, parseJson(layout, `oci-layout in ${reader.name}`), `oci-layout in ${reader.name}`);
  const subject = `index.json in ${reader.name}`;
  const index = parseManifest(
    await reader.readFile('index.json', maxManifestBytes, signal),
    undefined,
    subject,
  );
  if (index.kind !== 'index') throw new HrunError('IMAGE_INVALID', `${subject} is not an index`);
  const loaded: Image[] = [];
  let elsewhere: HrunError | undefined;
  for (const entry of index.manifests) {
    try {
      if (entry.platform !== undefined && entry.platform !== null) {
        choosePlatform({ ...index, manifests: [entry] }, options.platform, reader.name);
      }
      loaded.push(await loadEntry(store, reader, entry, options, signal));
    } catch (error) {
      if (!isHrunError(error, 'PLATFORM_MISMATCH')) throw error;
      elsewhere ??= error;
    }
  }
  if (loaded.length > 0) return loaded;
  throw elsewhere ?? new HrunError('IMAGE_INVALID', `${reader.name} has no image in it`);
}

async function loadEntry(
  store: ImageStore,
  reader: LayoutReader,
  entry: IndexEntry,
  options: LoadOptions,
  signal: AbortSignal,
): Promise<Image> {
  const subject = `image ${nameOf(entry) ?? shortDigest(entry.digest)} in ${reader.name}`;
  const { manifest, descriptor } = await resolve(store, reader, entry, options, subject, signal);
  await copyBlob(store, reader, manifest.config, { ...options, maxBytes: maxConfigBytes }, signal);
  const config = await readConfig(store.blobs, manifest, options.platform, subject);
  for (const layer of manifest.layers) await copyBlob(store, reader, layer, options, signal);
  const tag = referenceOf(entry);
  const names = { tags: tag === undefined ? [] : [tag], digests: [] };
  return await store.add(recordOf(manifest, descriptor.digest, config), names, signal);
}

/** Goes down from an index to the manifest for the platform, and stores that. */
async function resolve(
  store: ImageStore,
  reader: LayoutReader,
  start: IndexEntry,
  options: LoadOptions,
  subject: string,
  signal: AbortSignal,
): Promise<{ readonly manifest: ImageManifest; readonly descriptor: Descriptor }> {
  let descriptor: Descriptor = start;
  for (let depth = 0; depth <= maxNestedIndexes; depth += 1) {
    await copyBlob(store, reader, descriptor, { ...options, maxBytes: maxManifestBytes }, signal);
    const bytes = await store.blobs.read(descriptor.digest, maxManifestBytes, `the manifest of ${subject}`);
    const document = parseManifest(bytes, descriptor.mediaType, `the manifest of ${subject}`);
    if (document.kind === 'manifest') return { manifest: document, descriptor };
    descriptor = choosePlatform(document, options.platform, subject);
  }
  throw new HrunError('IMAGE_INVALID', `${subject} nests indexes too deeply`);
}

async function copyBlob(
  store: ImageStore,
  reader: LayoutReader,
  { digest, size }: Descriptor,
  { hold, progress, maxBytes }: LoadOptions & { readonly maxBytes?: number },
  signal: AbortSignal,
): Promise<void> {
  hold.keep(digest);
  if ((await store.blobs.sizeOf(digest)) === size) return;
  const path = `blobs/sha256/${digest.slice('sha256:'.length)}`;
  const subject = `${path} in ${reader.name}`;
  const limit = maxBytes === undefined ? {} : { maxBytes };
  const stream = reader.openStream(path, signal);
  await store.blobs.write(stream, { subject, digest, size, ...limit }, hold, signal);
  progress.part(shortDigest(digest), 'Loaded', { current: size, total: size, unit: 'bytes' });
}

/** The name an index gives to an image; a tag without a repository names nothing. */
function referenceOf(entry: IndexEntry): Reference | undefined {
  for (const annotation of nameAnnotations) {
    const text = entry.annotations?.[annotation];
    if (text === undefined || !/[/:]/.test(text)) continue;
    const reference = tryParse(text);
    if (reference !== undefined) return { ...reference, tag: reference.tag ?? 'latest', digest: undefined };
  }
  return undefined;
}

function nameOf(entry: IndexEntry): string | undefined {
  const text = nameAnnotations.map((name) => entry.annotations?.[name]).find((value) => value !== undefined);
  return text === undefined ? undefined : printable(text, 100);
}

function tryParse(text: string): Reference | undefined {
  try {
    return parseReference(text);
  } catch {
    return undefined;
  }
}
