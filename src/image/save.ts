import { Header } from 'tar';
import type { Digest } from '../base/ids.ts';
import { maxManifestBytes, mediaTypes } from '../oci/imageManifest.ts';
import type { Image, ImageStore } from './imageStore.ts';
import { familiarName, parseReference, type Reference } from './reference.ts';

const blockBytes = 512;

interface SavedImage {
  readonly image: Image;
  readonly names: readonly Reference[];
}

/**
 * An archive that is an OCI layout and a docker-archive at once, as docker ≥ 25 writes it: `docker load`, podman, skopeo
 * and hrun read it. An image asked for by name is saved under that name, by id under none. The images cannot be
 * removed while the archive is being read.
 * @throws HrunError IMAGE_UNKNOWN before the first byte
 */
export async function* saveImages(
  store: ImageStore,
  wanted: readonly string[],
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  using leases = new DisposableStack();
  const saved = collect(store, wanted);
  for (const { image } of saved) leases.use(store.lease(image.id));
  const manifests: object[] = [];
  const dockerManifests: object[] = [];
  const blobs = new Map<Digest, number>();
  for (const { image, names } of saved) {
    const bytes = await store.blobs.read(
      image.manifestDigest,
      maxManifestBytes,
      `the manifest of ${image.id}`,
    );
    blobs.set(image.manifestDigest, bytes.length);
    blobs.set(image.id, image.configSize);
    for (const { digest, size } of image.layers) blobs.set(digest, size);
    const descriptor = {
      mediaType: manifestTypeOf(bytes),
      digest: image.manifestDigest,
      size: bytes.length,
      platform: { os: image.config.os, architecture: image.config.architecture },
    };
    manifests.push(
      ...(names.length === 0 ? [descriptor] : names.map((name) => ({ ...descriptor, ...named(name) }))),
    );
    dockerManifests.push({
      Config: blobPath(image.id),
      RepoTags: names.length === 0 ? null : names.map(familiarName),
      Layers: image.layers.map(({ digest }) => blobPath(digest)),
    });
  }

  yield* smallFile('oci-layout', { imageLayoutVersion: '1.0.0' });
  yield* smallFile('index.json', { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests });
  yield* smallFile('manifest.json', dockerManifests);
  for (const directory of ['blobs/', 'blobs/sha256/']) yield header(directory, 0, 'Directory');
  for (const [digest, size] of blobs) {
    yield header(blobPath(digest), size, 'File');
    for await (const chunk of store.blobs.stream(digest)) {
      signal.throwIfAborted();
      yield chunk;
    }
    yield padding(size);
  }
  yield Buffer.alloc(2 * blockBytes);
}

function collect(store: ImageStore, wanted: readonly string[]): readonly SavedImage[] {
  const saved = new Map<Digest, { image: Image; names: Reference[] }>();
  for (const text of wanted) {
    const image = store.get(text);
    const entry = saved.get(image.id) ?? { image, names: [] };
    saved.set(image.id, entry);
    const name = image.names.map(parseReference).find((candidate) => means(text, candidate));
    if (name !== undefined && !entry.names.includes(name)) entry.names.push(name);
  }
  return [...saved.values()];
}

function means(text: string, name: Reference): boolean {
  if (/^sha256:|^[0-9a-f]{64}$/.test(text)) return false;
  const { domain, path, tag, digest } = parseReference(text);
  return digest === undefined && name.domain === domain && name.path === path && name.tag === tag;
}

/** containerd's annotation has the whole name; the image-spec's is the tag, which is what skopeo asks for. */
function named(name: Reference): object {
  return {
    annotations: {
      'io.containerd.image.name': `${name.domain}/${name.path}:${name.tag}`,
      'org.opencontainers.image.ref.name': name.tag,
    },
  };
}

function manifestTypeOf(bytes: Buffer): string {
  const document: unknown = JSON.parse(bytes.toString('utf8'));
  const isDocker =
    typeof document === 'object' &&
    document !== null &&
    'mediaType' in document &&
    document.mediaType === mediaTypes.dockerManifest;
  return isDocker ? mediaTypes.dockerManifest : mediaTypes.ociManifest;
}

function blobPath(digest: Digest): string {
  return `blobs/${digest.replace(':', '/')}`;
}

function* smallFile(path: string, content: object): Generator<Uint8Array> {
  const bytes = Buffer.from(JSON.stringify(content));
  yield header(path, bytes.length, 'File');
  yield bytes;
  yield padding(bytes.length);
}

function header(path: string, size: number, type: 'File' | 'Directory'): Uint8Array {
  const block = Buffer.alloc(blockBytes);
  const mode = type === 'File' ? 0o644 : 0o755;
  const made = new Header({ path, size, type, mode, uid: 0, gid: 0, mtime: new Date(0) });
  made.encode(block);
  return block;
}

function padding(size: number): Uint8Array {
  return Buffer.alloc((blockBytes - (size % blockBytes)) % blockBytes);
}
