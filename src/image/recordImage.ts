import { HrunError } from '../base/errors.ts';
import type { Digest } from '../base/ids.ts';
import { type ImageConfig, maxConfigBytes, parseImageConfig } from '../oci/imageConfig.ts';
import type { Descriptor, ImageManifest } from '../oci/imageManifest.ts';
import type { BlobStore } from './blobStore.ts';
import type { ImageRecord } from './imageIndex.ts';
import { checkPlatform, type Platform } from './platform.ts';

/**
 * Reads the config of a manifest, which must be in the store, and checks it against manifest and platform.
 * @throws HrunError IMAGE_INVALID, PLATFORM_MISMATCH
 */
export async function readConfig(
  blobs: BlobStore,
  manifest: ImageManifest,
  platform: Platform,
  subject: string,
): Promise<ImageConfig> {
  const bytes = await blobs.read(manifest.config.digest, maxConfigBytes, `the config of ${subject}`);
  const config = parseImageConfig(bytes, `the config of ${subject}`);
  if (config.diffIds.length !== manifest.layers.length) {
    throw new HrunError(
      'IMAGE_INVALID',
      `${subject} has ${manifest.layers.length} layers, but its config tells of ${config.diffIds.length}`,
    );
  }
  checkPlatform(config, platform, subject);
  return config;
}

/** What the store keeps of a checked image. */
export function recordOf(
  manifest: ImageManifest,
  manifestDigest: Digest,
  config: ImageConfig,
): Omit<ImageRecord, 'storedAt' | 'names' | 'repoDigests'> {
  return {
    id: manifest.config.digest,
    configSize: manifest.config.size,
    manifestDigest,
    layers: config.diffIds.map((diffId, index) => layerOf(manifest.layers[index], diffId)),
  };
}

function layerOf(descriptor: Descriptor | undefined, diffId: Digest) {
  if (descriptor === undefined) throw new HrunError('INTERNAL', `no layer has diff id ${diffId}`);
  const { digest, mediaType, size } = descriptor;
  return { digest, diffId, mediaType, size };
}
