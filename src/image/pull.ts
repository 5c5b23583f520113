import { withCancel } from '../base/abort.ts';
import { crashPoint } from '../base/crashPoint.ts';
import { HrunError } from '../base/errors.ts';
import type { Digest } from '../base/ids.ts';
import { formatSize } from '../base/units.ts';
import { maxConfigBytes } from '../oci/imageConfig.ts';
import { type Descriptor, type ImageManifest, parseManifest } from '../oci/imageManifest.ts';
import type { BlobHold } from './blobStore.ts';
import { type Credentials, credentialHelperIn, findCredentials } from './credentials.ts';
import { diskFull, type FreeBytes } from './diskFull.ts';
import type { Downloads } from './download.ts';
import type { Image, ImageStore } from './imageStore.ts';
import { choosePlatform, type Platform } from './platform.ts';
import { type ImageProgress, shortDigest } from './progress.ts';
import { readConfig, recordOf } from './recordImage.ts';
import { canonicalName, familiarRepository, parseReference, type Reference } from './reference.ts';
import { type FetchedManifest, openRegistry, type Registry } from './registry.ts';
import { protocolError } from './registryErrors.ts';

const parallelDownloads = 3;
const maxNestedIndexes = 2;

export interface PullRequest {
  /** As written by the user. */
  readonly reference: string;
  readonly platform: Platform;
  /** Accept plain http and any certificate. */
  readonly insecure: boolean;
  /** Text of the caller's Docker configuration, if it has one. */
  readonly dockerConfig: string | undefined;
  /** The caller's: proxies, and what credential helpers need. */
  readonly environment: ReadonlyMap<string, string>;
  readonly progress: ImageProgress;
  readonly retryPauseMs?: number;
  readonly idleTimeoutMs?: number;
}

export interface PulledImage {
  readonly image: Image;
  /** Canonical. */
  readonly reference: string;
  /** Of the manifest or index that the reference led to. */
  readonly digest: Digest;
  /** It was here under this name already. */
  readonly upToDate: boolean;
}

export interface PullDeps {
  readonly store: ImageStore;
  readonly downloads: Downloads;
  readonly directory: string;
  readonly freeBytes: FreeBytes;
}

/**
 * Brings an image from its registry into the store. Blobs that came whole, and the parts of broken ones, are left for
 * the next attempt.
 * @throws HrunError INVALID_ARGUMENT, INVALID_CONFIG, REGISTRY_…, IMAGE_UNKNOWN, IMAGE_INVALID, PLATFORM_MISMATCH,
 * DIGEST_MISMATCH, DISK_FULL
 */
export async function pullImage(
  deps: PullDeps,
  request: PullRequest,
  signal: AbortSignal,
): Promise<PulledImage> {
  const reference = parseReference(request.reference);
  const { domain, path } = reference;
  const credentials = await credentialsFor(reference, request, signal);
  const { insecure, environment, idleTimeoutMs, retryPauseMs } = request;
  using registry = openRegistry({
    domain,
    credentials,
    insecure,
    environment,
    ...(idleTimeoutMs !== undefined && { idleTimeoutMs }),
    ...(retryPauseMs !== undefined && { retryPauseMs }),
  });
  using hold = deps.store.blobs.hold();
  const subject = canonicalName(reference);
  const found = await findManifest(registry, reference, request.platform, subject, signal);
  request.progress.message(
    `${reference.tag ?? reference.digest}: Pulling from ${familiarRepository(reference)}`,
  );

  const { bytes, digest } = found.fetched;
  await deps.store.blobs.write([bytes], { subject: `the manifest of ${subject}`, digest }, hold, signal);
  const transfer = { deps, registry, path, request, hold };
  const [config, ...layers] = [found.manifest.config, ...found.manifest.layers];
  if (config.size > maxConfigBytes) {
    throw new HrunError('IMAGE_INVALID', `the config of ${subject} is longer than ${maxConfigBytes} bytes`);
  }
  const name = reference.digest === undefined ? subject : undefined;
  const byDigest = canonicalName({ domain, path, tag: undefined, digest: found.topDigest });
  const before = deps.store.list().find(({ id }) => id === config.digest);
  await fetchAll(transfer, [config], signal);
  const parsed = await readConfig(deps.store.blobs, found.manifest, request.platform, subject);
  // An image with the same config has the same layers, however they are compressed.
  if (before === undefined) await fetchAll(transfer, layers, signal);

  await crashPoint('pull.stored');
  const image = await deps.store.add(
    recordOf(found.manifest, digest, parsed),
    {
      tags: name === undefined ? [] : [{ ...reference, digest: undefined }],
      digests: [{ domain, path, tag: undefined, digest: found.topDigest }],
    },
    signal,
  );
  await crashPoint('pull.recorded');
  const upToDate =
    before?.repoDigests.includes(byDigest) === true && (name === undefined || before.names.includes(name));
  return { image, reference: subject, digest: found.topDigest, upToDate };
}

async function credentialsFor(
  reference: Reference,
  { dockerConfig, environment }: PullRequest,
  signal: AbortSignal,
): Promise<Credentials | undefined> {
  if (dockerConfig === undefined) return undefined;
  return await findCredentials(dockerConfig, reference, credentialHelperIn(environment), signal);
}

interface FoundManifest {
  readonly manifest: ImageManifest;
  readonly fetched: FetchedManifest;
  readonly topDigest: Digest;
}

async function findManifest(
  registry: Registry,
  { path, tag, digest }: Reference,
  platform: Platform,
  subject: string,
  signal: AbortSignal,
): Promise<FoundManifest> {
  let fetched = await registry.fetchManifest(path, digest ?? tag ?? 'latest', signal);
  const topDigest = fetched.digest;
  for (let depth = 0; depth <= maxNestedIndexes; depth += 1) {
    if (!looksLikeJson(fetched.bytes)) {
      throw protocolError(registry.host, `answers with something that is no manifest for ${subject}`);
    }
    const document = parseManifest(fetched.bytes, fetched.mediaType, `the manifest of ${subject}`);
    if (document.kind === 'manifest') return { manifest: document, fetched, topDigest };
    const entry = choosePlatform(document, platform, subject);
    fetched = await registry.fetchManifest(path, entry.digest, signal);
  }
  throw new HrunError('IMAGE_INVALID', `${subject} nests indexes too deeply`);
}

function looksLikeJson(bytes: Buffer): boolean {
  return /^\s*\{/.test(bytes.subarray(0, 256).toString('latin1'));
}

interface Transfer {
  readonly deps: PullDeps;
  readonly registry: Registry;
  readonly path: string;
  readonly request: PullRequest;
  readonly hold: BlobHold;
}

async function fetchAll(
  transfer: Transfer,
  wanted: readonly Descriptor[],
  signal: AbortSignal,
): Promise<void> {
  const blobs = [...new Map(wanted.map((blob) => [blob.digest, blob])).values()];
  await checkSpace(transfer, blobs);
  for (const { digest } of blobs) transfer.request.progress.part(shortDigest(digest), 'Waiting');
  const queue = blobs.values();
  await withCancel(signal, async (oneFailed, cancel) => {
    const worker = async () => {
      for (const blob of queue) await fetchOne(transfer, blob, oneFailed);
    };
    const workers = Array.from({ length: parallelDownloads }, () =>
      worker().catch((cause: unknown) => {
        cancel(cause); // the others need not go on
        throw cause;
      }),
    );
    const failed = (await Promise.allSettled(workers)).filter(({ status }) => status === 'rejected');
    if (failed.length > 0) throw oneFailed.reason;
  });
}

async function fetchOne(transfer: Transfer, blob: Descriptor, signal: AbortSignal): Promise<void> {
  const { deps, registry, path, request, hold } = transfer;
  const id = shortDigest(blob.digest);
  const total = blob.size;
  const onBytes = (current: number) =>
    request.progress.part(id, 'Downloading', { current, total, unit: 'bytes' });
  const { retryPauseMs = 250 } = request;
  const outcome = await deps.downloads.fetch({ registry, path, blob, onBytes, retryPauseMs }, hold, signal);
  request.progress.part(id, outcome === 'exists' ? 'Already exists' : 'Download complete');
}

async function checkSpace({ deps, hold, request }: Transfer, blobs: readonly Descriptor[]): Promise<void> {
  let missingBytes = 0;
  for (const { digest, size } of blobs) {
    hold.keep(digest);
    if ((await deps.store.blobs.sizeOf(digest)) === undefined) missingBytes += size;
  }
  const free = await deps.freeBytes(deps.directory);
  if (missingBytes <= free) return;
  throw diskFull(
    `${request.reference} needs ${formatSize(missingBytes)} in ${deps.directory}, where ${formatSize(free)} are free`,
  );
}
