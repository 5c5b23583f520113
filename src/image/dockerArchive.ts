import { z } from 'zod';
import { HrunError } from '../base/errors.ts';
import { printable } from '../base/text.ts';
import { maxConfigBytes, parseImageConfig } from '../oci/imageConfig.ts';
import {
  check,
  type Descriptor,
  type ImageManifest,
  maxManifestBytes,
  mediaTypes,
  parseJson,
} from '../oci/imageManifest.ts';
import { detectCompression } from './decompress.ts';
import type { Image, ImageStore } from './imageStore.ts';
import type { LoadOptions } from './ociLayout.ts';
import { checkPlatform } from './platform.ts';
import { recordOf } from './recordImage.ts';
import { parseReference } from './reference.ts';
import type { StagedArchive, StagedFile } from './stagedArchive.ts';

const name = z.string().max(4096);
const schema = z
  .array(
    z.object({
      Config: name,
      RepoTags: z
        .array(name)
        .max(1000)
        .nullish()
        .transform((tags) => tags ?? []),
      Layers: z
        .array(name)
        .max(1024)
        .nullish()
        .transform((layers) => layers ?? []),
    }),
  )
  .min(1, 'has no image')
  .max(1000);

/**
 * Stores the images of what `docker save` writes. Its layers are plain tars named by the archive; the manifest that
 * ties them to the config is written here.
 * @throws HrunError IMAGE_INVALID, PLATFORM_MISMATCH
 */
export async function loadDockerArchive(
  store: ImageStore,
  archive: StagedArchive,
  source: string,
  options: LoadOptions,
  signal: AbortSignal,
): Promise<readonly Image[]> {
  const { digest } = need(archive, 'manifest.json', source);
  const subject = `manifest.json in ${source}`;
  const bytes = await store.blobs.read(digest, maxManifestBytes, subject);
  const loaded: Image[] = [];
  for (const entry of check(schema, parseJson(bytes, subject), subject)) {
    const { manifest, config } = await manifestOf(store, archive, entry, source, options);
    const encoded = Buffer.from(JSON.stringify(encode(manifest)));
    const stored = await store.blobs.write([encoded], { subject: 'a manifest' }, options.hold, signal);
    const tags = entry.RepoTags.map((tag) => parseReference(tag));
    const record = recordOf(manifest, stored.digest, config);
    loaded.push(await store.add(record, { tags, digests: [] }, signal));
  }
  return loaded;
}

async function manifestOf(
  store: ImageStore,
  archive: StagedArchive,
  entry: z.infer<typeof schema>[number],
  source: string,
  { platform }: LoadOptions,
) {
  const subject = `image ${printable(entry.RepoTags[0] ?? entry.Config, 100)} in ${source}`;
  const file = need(archive, entry.Config, source);
  const bytes = await store.blobs.read(file.digest, maxConfigBytes, `the config of ${subject}`);
  const config = parseImageConfig(bytes, `the config of ${subject}`);
  checkPlatform(config, platform, subject);
  if (config.diffIds.length !== entry.Layers.length) {
    throw new HrunError(
      'IMAGE_INVALID',
      `${subject} has ${entry.Layers.length} layers, but its config tells of ${config.diffIds.length}`,
    );
  }
  const layers: Descriptor[] = [];
  for (const layer of entry.Layers) {
    const staged = need(archive, layer, source);
    layers.push({ ...staged, mediaType: await layerTypeOf(store, staged) });
  }
  const manifest: ImageManifest = {
    kind: 'manifest',
    mediaType: mediaTypes.ociManifest,
    config: { ...file, mediaType: mediaTypes.ociConfig },
    layers,
  };
  return { manifest, config };
}

async function layerTypeOf(store: ImageStore, { digest }: StagedFile): Promise<string> {
  const stream = store.blobs.stream(digest);
  for await (const chunk of stream) {
    const compression = detectCompression(chunk);
    if (compression === 'gzip') return mediaTypes.ociLayerGzip;
    if (compression === 'zstd') return mediaTypes.ociLayerZstd;
    break;
  }
  return mediaTypes.ociLayer;
}

function encode({ mediaType, config, layers }: ImageManifest): object {
  return { schemaVersion: 2, mediaType, config, layers };
}

function need(archive: StagedArchive, path: string, source: string): StagedFile {
  // Archives of docker before 1.10 have no leading "./"; some tools write one into manifest.json.
  const file = archive.find(path.replace(/^(\.\/)+/, ''));
  if (file !== undefined) return file;
  throw new HrunError('IMAGE_INVALID', `${source} has no ${printable(path, 100)}`);
}
