import { posix } from 'node:path';
import { HrunError } from '../base/errors.ts';
import type { Digest } from '../base/ids.ts';
import type { BlobHold, BlobStore } from './blobStore.ts';
import { DecompressionError, decompress } from './decompress.ts';
import type { LayoutReader } from './layoutReader.ts';
import { readTar, TarError } from './tarReader.ts';

const maxEntries = 20_000;
const maxLinks = 8;

/**
 * Names that image archives have: `index.json`, `blobs/sha256/…`, `<id>/layer.tar`, `<hex>.json`, `<hex>.tar`. Whatever
 * else is in an archive is not stored.
 */
const expectedName =
  /^(oci-layout|repositories|blobs\/sha256\/[0-9a-f]{64}|(\w[\w.:+-]{0,254}\/){0,2}\w[\w.:+-]{0,254}\.(json|tar|tar\.gz|tgz|tar\.zst))$/;

export interface StagedFile {
  readonly digest: Digest;
  readonly size: number;
}

/** The files of an archive, each a blob of the store; names are keys and nothing more. */
export interface StagedArchive {
  /** Follows links, inside the archive only. */
  find(name: string): StagedFile | undefined;
}

/**
 * Stores the files of an image archive (plain, gzip or zstd) as they come: an archive is a stream, and what its files
 * mean may be told at its end. What turns out not to belong to an image is unreferenced and goes with the next sweep.
 * @throws HrunError IMAGE_INVALID, DISK_FULL
 */
export async function stageArchive(
  blobs: BlobStore,
  source: { readonly name: string; readonly bytes: AsyncIterable<Uint8Array> },
  options: { readonly onBytes: (bytes: number) => void; readonly hold: BlobHold },
  signal: AbortSignal,
): Promise<StagedArchive> {
  const files = new Map<string, StagedFile>();
  const links = new Map<string, string>();
  try {
    const counted = countBytes(source.bytes, options.onBytes, signal);
    for await (const entry of readTar(decompress(counted), { maxEntries })) {
      if (!expectedName.test(entry.name)) continue;
      files.delete(entry.name);
      links.delete(entry.name);
      if (entry.kind === 'link') {
        const from = entry.symbolic ? posix.dirname(entry.name) : '.';
        links.set(entry.name, posix.normalize(posix.join(from, entry.target)));
      } else if (entry.kind === 'file') {
        const subject = `${entry.name} in ${source.name}`;
        files.set(
          entry.name,
          await blobs.write(entry.body, { subject, size: entry.size }, options.hold, signal),
        );
      }
    }
  } catch (cause) {
    signal.throwIfAborted();
    if (!(cause instanceof TarError || cause instanceof DecompressionError)) throw cause;
    throw new HrunError('IMAGE_INVALID', `${source.name} is not an image archive: ${cause.message}`, {
      cause,
      hint: 'an OCI layout or what "docker save" writes is expected; a root filesystem goes to "hrun import"',
    });
  }
  return {
    find: (name) => {
      let current: string | undefined = name;
      for (let followed = 0; current !== undefined && followed <= maxLinks; followed += 1) {
        const file = files.get(current);
        if (file !== undefined) return file;
        current = links.get(current);
      }
      return undefined;
    },
  };
}

/** A staged archive as an OCI layout. */
export function layoutOf(archive: StagedArchive, blobs: BlobStore, sourceName: string): LayoutReader {
  const get = (path: string) => {
    const file = archive.find(path);
    if (file === undefined) throw new HrunError('IMAGE_INVALID', `${sourceName} has no ${path}`);
    return file;
  };
  return {
    name: sourceName,
    readFile: async (path, maxBytes) =>
      await blobs.read(get(path).digest, maxBytes, `${path} in ${sourceName}`),
    openStream: (path) => blobs.stream(get(path).digest),
  };
}

async function* countBytes(
  source: AsyncIterable<Uint8Array>,
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let total = 0;
  for await (const chunk of source) {
    signal.throwIfAborted();
    total += chunk.length;
    onBytes(total);
    yield chunk;
  }
}
