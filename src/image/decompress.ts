import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { errnoOf } from '../base/errors.ts';

/** What the first bytes of a stream say about it; media types and file names are not believed. */
export type Compression = 'none' | 'gzip' | 'zstd' | 'bzip2' | 'xz';

const magics: readonly (readonly [Compression, readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a]],
];
const magicBytes = 5;

export function detectCompression(start: Uint8Array): Compression {
  return magics.find(([, magic]) => magic.every((byte, index) => start[index] === byte))?.[0] ?? 'none';
}

/** The stream cannot be decompressed. */
export class DecompressionError extends Error {}

/**
 * The plain bytes of a stream: gzip and zstd are undone, anything else comes as it is. Leaving the loop early ends
 * everything behind it.
 * @throws DecompressionError for damaged or cut-off data, or a compression that is not supported
 */
export async function* decompress(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const { start, whole } = await peek(source);
  const compression = detectCompression(start);
  if (compression === 'none') {
    yield* whole;
    return;
  }
  if (compression === 'bzip2' || compression === 'xz') {
    await whole.return(undefined);
    throw new DecompressionError(`${compression} compression is not supported`);
  }
  // Larger pieces than zlib's own 16 KiB: each costs a trip through the thread pool.
  const chunkSize = 256 * 1024;
  const plain = compression === 'gzip' ? createGunzip({ chunkSize }) : createZstdDecompress({ chunkSize });
  const feeding = pipeline(Readable.from(whole), plain);
  feeding.catch(() => {}); // its error comes out of `plain` as well
  try {
    for await (const chunk of plain) yield chunk;
  } catch (cause) {
    const code = errnoOf(cause) ?? '';
    if (!/^(Z|ZSTD)_/.test(code)) throw cause;
    const why = code === 'Z_BUF_ERROR' ? 'it is cut off' : 'it is damaged';
    throw new DecompressionError(`the ${compression} stream cannot be read: ${why}`, { cause });
  } finally {
    plain.destroy();
    await feeding.catch(() => {});
  }
}

/** The first bytes (fewer only if there are no more), and all of the stream, the first bytes included. */
async function peek(
  source: AsyncIterable<Uint8Array>,
): Promise<{ readonly start: Uint8Array; readonly whole: AsyncGenerator<Uint8Array> }> {
  const iterator = source[Symbol.asyncIterator]();
  let start = Buffer.alloc(0);
  while (start.length < magicBytes) {
    const next = await iterator.next();
    if (next.done) break;
    start = Buffer.concat([start, next.value]);
  }
  async function* all(): AsyncGenerator<Uint8Array> {
    try {
      if (start.length > 0) yield start;
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) yield next.value;
    } finally {
      await iterator.return?.();
    }
  }
  return { start, whole: all() };
}
