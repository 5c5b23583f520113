import { createHash } from 'node:crypto';
import { ftruncateSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { createMemfd, type Memfd, sealMemfd } from '../sys/memfd.ts';
import { dataRanges } from '../sys/sparseCopy.ts';

const pageBytes = 4096;
const chunkBytes = 256 * pageBytes;
const zeroes = Buffer.alloc(pageBytes);

/** An empty memfd for a guest's RAM. */
export function createRam(sizeBytes: number): Memfd {
  const ram = createMemfd('hrun-ram');
  ftruncateSync(ram.fd, sizeBytes);
  return ram;
}

/**
 * Writes the pages of a memfd that are not zero to a new sparse file, and answers what `loadRam` checks.
 * @throws the system error, ENOSPC among them
 */
export async function storeRam(
  ram: Memfd,
  sizeBytes: number,
  path: string,
  signal: AbortSignal,
): Promise<{ readonly sha256: string; readonly storedBytes: number }> {
  await using source = await openMemfd(ram, 'r');
  await using target = await open(path, 'wx', 0o600);
  await target.truncate(sizeBytes);
  const copied = await copyPages(source, target, sizeBytes, path, signal);
  await target.sync();
  return copied;
}

/**
 * A sealed memfd filled from a file of `storeRam`.
 * @returns undefined when the file is not what was stored
 */
export async function loadRam(
  path: string,
  sizeBytes: number,
  sha256: string,
  signal: AbortSignal,
): Promise<Memfd | undefined> {
  using undo = new DisposableStack();
  await using source = await open(path, 'r');
  if ((await source.stat()).size !== sizeBytes) return undefined;
  const ram = undo.use(createRam(sizeBytes));
  {
    await using target = await openMemfd(ram, 'r+');
    const copied = await copyPages(source, target, sizeBytes, path, signal);
    if (copied.sha256 !== sha256) return undefined;
  }
  sealMemfd(ram);
  undo.move();
  return ram;
}

/** The hash is of the pages that are not zero and where they lie: holes may be filled differently on each side. */
async function copyPages(
  source: FileHandle,
  target: FileHandle,
  sizeBytes: number,
  subject: string,
  signal: AbortSignal,
): Promise<{ readonly sha256: string; readonly storedBytes: number }> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(chunkBytes);
  const place = Buffer.alloc(8);
  let storedBytes = 0;
  let done = 0;
  for (const range of dataRanges(source, sizeBytes, subject)) {
    // whole pages, each once, even where the file system cuts its data elsewhere
    const first = Math.max(done, range.start - (range.start % pageBytes));
    done = Math.min(Math.ceil(range.end / pageBytes) * pageBytes, sizeBytes);
    for (let at = first; at < done; at += chunkBytes) {
      signal.throwIfAborted();
      const wanted = Math.min(chunkBytes, done - at);
      const { bytesRead } = await source.read(buffer, 0, wanted, at);
      for (const { start, end } of runsOfData(buffer.subarray(0, bytesRead))) {
        const run = buffer.subarray(start, end);
        place.writeBigUInt64LE(BigInt(at + start));
        hash.update(place).update(run);
        await target.write(run, 0, run.length, at + start);
        storedBytes += run.length;
      }
      if (bytesRead < wanted) break;
    }
  }
  return { sha256: hash.digest('hex'), storedBytes };
}

/** Whole pages, each run one page: then the hash does not depend on how the file's data is cut into ranges. */
function* runsOfData(bytes: Buffer): Generator<{ readonly start: number; readonly end: number }> {
  for (let start = 0; start < bytes.length; start += pageBytes) {
    const end = Math.min(start + pageBytes, bytes.length);
    if (!bytes.subarray(start, end).equals(zeroes.subarray(0, end - start))) yield { start, end };
  }
}

/** A second opening of the memfd, with a position of its own. */
async function openMemfd({ fd }: Memfd, flags: 'r' | 'r+'): Promise<FileHandle> {
  return await open(`/proc/self/fd/${fd}`, flags);
}
