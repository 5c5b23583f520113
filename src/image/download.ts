import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { backoff } from '../base/backoff.ts';
import { HrunError, isHrunError } from '../base/errors.ts';
import { createFlights, type Flights } from '../base/flights.ts';
import { type Digest, parseDigest } from '../base/ids.ts';
import type { Descriptor } from '../oci/imageManifest.ts';
import { type BlobHold, type BlobStore, checkDigest, writeAll } from './blobStore.ts';
import { explainDiskFull } from './diskFull.ts';
import { bodyOf, type HttpResponse } from './http.ts';
import type { Registry } from './registry.ts';
import { unreachable } from './registryErrors.ts';

/** Attempts in a row that bring no byte. */
const maxFruitlessAttempts = 5;

export interface DownloadRequest {
  readonly registry: Registry;
  /** Repository path. */
  readonly path: string;
  readonly blob: Descriptor;
  /** Told how many bytes are here, the continued ones included. */
  readonly onBytes: (bytes: number) => void;
  readonly retryPauseMs: number;
}

/**
 * Brings blobs of registries into the store. A broken download keeps what it has: the next attempt, or the next
 * command, goes on from there. The same blob asked for twice at once is downloaded once.
 */
export class Downloads {
  readonly #blobs: BlobStore;
  readonly #flights: Flights<void, number> = createFlights();

  constructor(blobs: BlobStore) {
    this.#blobs = blobs;
  }

  /** @throws HrunError DIGEST_MISMATCH, DISK_FULL, REGISTRY_… */
  async fetch(request: DownloadRequest, hold: BlobHold, signal: AbortSignal): Promise<'exists' | 'fetched'> {
    const { digest, size } = request.blob;
    hold.keep(digest);
    if ((await this.#blobs.sizeOf(digest)) === size) return 'exists';
    await this.#flights.join(
      digest,
      async (notify, flightSignal) => {
        using flightHold = this.#blobs.hold();
        flightHold.keep(digest);
        await fetchBlob(this.#blobs, { ...request, onBytes: notify }, flightSignal);
      },
      request.onBytes,
      signal,
    );
    return 'fetched';
  }
}

async function fetchBlob(blobs: BlobStore, request: DownloadRequest, signal: AbortSignal): Promise<void> {
  const { digest } = request.blob;
  const path = blobs.partialPathOf(digest);
  try {
    await using file = await open(path, 'a', 0o600);
    const resumed = await tally(file, path, request.blob.size);
    const state = { file, ...resumed };
    await fetchRest(state, request, signal);
    const continued = resumed.received > 0;
    if (continued && digestOf(state.hash) !== digest) {
      // What an earlier command left may have rotted: only a download in one piece accuses the registry.
      await restart(state);
      await fetchRest(state, request, signal);
    }
    checkDigest(digestOf(state.hash), { subject: subjectOf(request), digest });
    await file.sync();
    await blobs.adopt(path, digest);
  } catch (cause) {
    if (isHrunError(cause, 'DIGEST_MISMATCH')) await rm(path, { force: true });
    signal.throwIfAborted();
    throw explainDiskFull(cause, blobs.directory, `for ${subjectOf(request)}`);
  }
}

interface Download {
  readonly file: FileHandle;
  hash: Hash;
  received: number;
}

/** Hashes what is there already. */
async function tally(
  file: FileHandle,
  path: string,
  wantedBytes: number,
): Promise<{ hash: Hash; received: number }> {
  const { size } = await file.stat();
  const hash = createHash('sha256');
  if (size > wantedBytes) {
    await file.truncate(0);
    return { hash, received: 0 };
  }
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk);
  return { hash, received: size };
}

async function restart(state: Download): Promise<void> {
  await state.file.truncate(0);
  state.hash = createHash('sha256');
  state.received = 0;
}

async function fetchRest(state: Download, request: DownloadRequest, signal: AbortSignal): Promise<void> {
  const { registry, path, blob, onBytes } = request;
  const pauses = backoff(request.retryPauseMs, 8000);
  onBytes(state.received);
  for (let fruitless = 0; state.received < blob.size; ) {
    const { response, offset } = await registry.openBlob(path, blob.digest, state.received, signal);
    if (offset !== state.received) await restart(state);
    const before = state.received;
    try {
      await receive(state, response, request, signal);
    } catch (cause) {
      signal.throwIfAborted();
      if (isHrunError(cause) || !(cause instanceof BrokenConnection)) throw cause;
      fruitless = state.received > before ? 0 : fruitless + 1;
      if (fruitless === maxFruitlessAttempts) throw unreachable(registry.host, cause.cause);
      if (fruitless === 0) pauses.reset();
      await pauses.pause(signal);
    }
  }
}

class BrokenConnection extends Error {}

async function receive(
  state: Download,
  response: HttpResponse,
  request: DownloadRequest,
  signal: AbortSignal,
): Promise<void> {
  const { blob, onBytes } = request;
  const body = bodyOf(response);
  await using _cut = { [Symbol.asyncDispose]: async () => void (await body.return(undefined)) };
  for (;;) {
    const next = await body.next().catch((cause: unknown) => {
      throw new BrokenConnection('the connection broke', { cause });
    });
    if (next.done) break;
    signal.throwIfAborted();
    if (state.received + next.value.length > blob.size) {
      throw new HrunError('DIGEST_MISMATCH', `${subjectOf(request)} is longer than ${blob.size} bytes`, {
        hint: 'the registry or something on the way changed it',
      });
    }
    await writeAll(state.file, next.value);
    state.hash.update(next.value);
    state.received += next.value.length;
    onBytes(state.received);
  }
  if (state.received < blob.size) {
    // A server that ends early without an error looks like this; the next range shows whether there is more.
    throw new BrokenConnection('the connection ended early', {
      cause: new Error(`it ended after ${state.received} of ${blob.size} bytes`),
    });
  }
}

function digestOf(hash: Hash): Digest {
  return parseDigest(`sha256:${hash.copy().digest('hex')}`);
}

function subjectOf({ blob, registry, path }: DownloadRequest): string {
  return `blob ${blob.digest.slice(0, 19)} of ${registry.host}/${path}`;
}
