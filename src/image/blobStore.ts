import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, renameSync } from 'node:fs';
import { chmod, type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, HrunError } from '../base/errors.ts';
import { type Digest, parseDigest } from '../base/ids.ts';
import { sha256 } from './chain.ts';
import { explainDiskFull } from './diskFull.ts';

/** A download that nobody went on with for this long is given up. */
const partialLifeMs = 7 * 24 * 60 * 60 * 1000;

/** What is known of a blob before its bytes come. */
export interface BlobExpectation {
  /** Names the blob in errors. */
  readonly subject: string;
  readonly digest?: Digest;
  readonly size?: number;
  readonly maxBytes?: number;
}

/** While it is not disposed, the blobs it keeps are not swept, whether an image refers to them or not. */
export interface BlobHold extends Disposable {
  keep(digest: Digest): void;
}

/**
 * Content-addressed files: `blobs/sha256/<hex>` is always whole and has the digest of its name. Beside it `tmp/` (emptied
 * when the store is opened) and `partial/<hex>`, downloads that may be continued.
 */
export class BlobStore {
  readonly directory: string;
  readonly #blobs: string;
  readonly #temporary: string;
  readonly #partial: string;
  readonly #held = new Map<Digest, number>();

  private constructor(directory: string) {
    this.directory = directory;
    this.#blobs = join(directory, 'blobs', 'sha256');
    this.#temporary = join(directory, 'tmp');
    this.#partial = join(directory, 'partial');
  }

  /** Removes what a crash left half-written. `nowMs` is the wall clock. */
  static async open(directory: string, nowMs: number): Promise<BlobStore> {
    const store = new BlobStore(directory);
    await rm(store.#temporary, { recursive: true, force: true });
    for (const path of [store.#blobs, store.#temporary, store.#partial]) {
      await mkdir(path, { recursive: true, mode: 0o700 });
    }
    for (const name of await readdir(store.#partial)) {
      const path = join(store.#partial, name);
      if ((await stat(path)).mtimeMs < nowMs - partialLifeMs) await rm(path, { recursive: true });
    }
    return store;
  }

  pathOf(digest: Digest): string {
    return join(this.#blobs, hexOf(digest));
  }

  partialPathOf(digest: Digest): string {
    return join(this.#partial, hexOf(digest));
  }

  /** A path that nobody uses, on the file system of the blobs; gone after a restart. */
  newTemporaryPath(): string {
    return join(this.#temporary, randomBytes(12).toString('hex'));
  }

  hold(): BlobHold {
    const kept = new Set<Digest>();
    return {
      keep: (digest) => {
        if (kept.has(digest)) return;
        kept.add(digest);
        this.#held.set(digest, (this.#held.get(digest) ?? 0) + 1);
      },
      [Symbol.dispose]: () => {
        for (const digest of kept) {
          const left = (this.#held.get(digest) ?? 1) - 1;
          if (left === 0) this.#held.delete(digest);
          else this.#held.set(digest, left);
        }
        kept.clear();
      },
    };
  }

  /** Bytes of a blob, undefined when it is not here. To rely on it, hold the digest first. */
  async sizeOf(digest: Digest): Promise<number | undefined> {
    try {
      return (await stat(this.pathOf(digest))).size;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** @throws HrunError IMAGE_INVALID when it is missing or longer than `maxBytes`, DIGEST_MISMATCH when it rotted */
  async read(digest: Digest, maxBytes: number, subject: string): Promise<Buffer> {
    const size = await this.sizeOf(digest);
    if (size === undefined) throw new HrunError('IMAGE_INVALID', `${subject} (${digest}) is missing`);
    checkSize(size, { subject, maxBytes });
    const bytes = await readFile(this.pathOf(digest));
    checkDigest(sha256(bytes), { subject, digest });
    return bytes;
  }

  /** The bytes of a blob, from its start; the file is opened when the first is asked for. */
  async *stream(digest: Digest): AsyncGenerator<Buffer> {
    for await (const chunk of createReadStream(this.pathOf(digest), { highWaterMark: 256 * 1024 })) {
      if (Buffer.isBuffer(chunk)) yield chunk;
    }
  }

  /**
   * Stores what `source` yields, checking it against `expected` on the way; nothing is left behind by a failure.
   * @throws HrunError DIGEST_MISMATCH, IMAGE_INVALID (too long), DISK_FULL
   */
  async write(
    source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    expected: BlobExpectation,
    hold: BlobHold,
    signal: AbortSignal,
  ): Promise<{ readonly digest: Digest; readonly size: number }> {
    if (expected.digest !== undefined) hold.keep(expected.digest);
    const path = this.newTemporaryPath();
    await using undo = new AsyncDisposableStack();
    undo.defer(() => rm(path, { force: true }));
    const hash = createHash('sha256');
    let size = 0;
    try {
      await using file = await open(path, 'wx', 0o600);
      for await (const chunk of source) {
        signal.throwIfAborted();
        size += chunk.length;
        checkSize(size, { ...expected, atLeast: true });
        hash.update(chunk);
        await writeAll(file, chunk);
      }
      await file.sync();
    } catch (cause) {
      signal.throwIfAborted();
      throw explainDiskFull(cause, this.directory, `for ${expected.subject}`);
    }
    const digest = parseDigest(`sha256:${hash.digest('hex')}`);
    checkSize(size, expected);
    checkDigest(digest, expected);
    hold.keep(digest);
    await this.adopt(path, digest);
    return { digest, size };
  }

  /** Makes a finished, synced file of this file system a blob. The caller has checked its digest and holds it. */
  async adopt(path: string, digest: Digest): Promise<void> {
    await chmod(path, 0o600);
    await rename(path, this.pathOf(digest));
    await using directory = await open(this.#blobs, 'r');
    await directory.sync();
  }

  /** Removes blobs that are neither referenced nor held, and with `partial` unfinished downloads; answers the bytes. */
  async sweep(referenced: ReadonlySet<Digest>, options: { readonly partial: boolean }): Promise<number> {
    let reclaimedBytes = 0;
    for (const name of await readdir(this.#blobs)) {
      const digest = digestOfName(name);
      const path = join(this.#blobs, name);
      const bytes = (await stat(path)).size;
      if (digest !== undefined && (referenced.has(digest) || this.#held.has(digest))) continue;
      // Asking whether it is held and moving it away is one step: nobody can find it in between and rely on it.
      await this.#discard(path);
      reclaimedBytes += bytes;
    }
    if (!options.partial) return reclaimedBytes;
    for (const name of await readdir(this.#partial)) {
      const digest = digestOfName(name);
      const path = join(this.#partial, name);
      const bytes = (await stat(path)).size;
      if (digest !== undefined && this.#held.has(digest)) continue;
      await this.#discard(path);
      reclaimedBytes += bytes;
    }
    return reclaimedBytes;
  }

  async #discard(path: string): Promise<void> {
    const away = this.newTemporaryPath();
    renameSync(path, away);
    await rm(away, { recursive: true, force: true });
  }
}

/** @throws HrunError DIGEST_MISMATCH */
export function checkDigest(actual: Digest, expected: BlobExpectation): void {
  if (expected.digest === undefined || expected.digest === actual) return;
  throw new HrunError(
    'DIGEST_MISMATCH',
    `${expected.subject} has digest ${actual}, but ${expected.digest} was expected`,
    {
      hint: 'the copy was damaged or tampered with: get the image again',
    },
  );
}

/** Writes the whole chunk at the file's position: write(2) may take less. */
export async function writeAll(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let offset = 0; offset < chunk.length; ) {
    const { bytesWritten } = await file.write(chunk, offset);
    offset += bytesWritten;
  }
}

function checkSize(size: number, expected: BlobExpectation & { readonly atLeast?: boolean }): void {
  const { subject, maxBytes = Number.POSITIVE_INFINITY } = expected;
  if (size > maxBytes) {
    throw new HrunError('IMAGE_INVALID', `${subject} is longer than the ${maxBytes} bytes it may have`);
  }
  if (expected.size === undefined) return;
  if (size > expected.size || (size < expected.size && expected.atLeast !== true)) {
    const actual = size > expected.size ? `longer than` : `${size} bytes long instead of`;
    throw new HrunError('DIGEST_MISMATCH', `${subject} is ${actual} ${expected.size} bytes`, {
      hint: 'the copy was damaged or cut off: get the image again',
    });
  }
}

function hexOf(digest: Digest): string {
  return digest.slice('sha256:'.length);
}

function digestOfName(name: string): Digest | undefined {
  return /^[0-9a-f]{64}$/.test(name) ? parseDigest(`sha256:${name}`) : undefined;
}
