import { chmod, constants, copyFile, type FileHandle, open } from 'node:fs/promises';
import { errnoOf } from '../base/errors.ts';
import { libc, systemError } from './libc.ts';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const ENXIO = 6;
const chunkBytes = 1024 * 1024;

/**
 * Copies a file to a new one (mode 0600) without filling its holes: by sharing its blocks where the file system can
 * (reflink), else data range by data range. On failure or abort the new file is left for the caller to remove.
 */
export async function copySparse(from: string, to: string, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  if (await reflink(from, to)) return;
  await using source = await open(from, 'r');
  await using target = await open(to, 'w', 0o600);
  const { size } = await source.stat();
  await target.truncate(size);
  const buffer = Buffer.allocUnsafe(chunkBytes);
  for (const { start, end } of dataRanges(source, size, from)) {
    await copyRange(source, target, start, end, buffer, signal);
  }
}

/** The parts of a file of `size` bytes that are no holes, in order. `subject` names the file in errors. */
export function* dataRanges(
  file: FileHandle,
  size: number,
  subject: string,
): Generator<{ readonly start: number; readonly end: number }> {
  let start = seek(file, 0, SEEK_DATA, subject);
  while (start !== undefined && start < size) {
    const end = seek(file, start, SEEK_HOLE, subject) ?? size;
    yield { start, end };
    start = seek(file, end, SEEK_DATA, subject);
  }
}

async function reflink(from: string, to: string): Promise<boolean> {
  try {
    await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE);
    await chmod(to, 0o600);
    return true;
  } catch (error) {
    if (['ENOTSUP', 'EOPNOTSUPP', 'EXDEV', 'EINVAL', 'ENOTTY', 'ENOSYS'].includes(errnoOf(error) ?? ''))
      return false;
    throw error;
  }
}

async function copyRange(
  source: FileHandle,
  target: FileHandle,
  start: number,
  end: number,
  buffer: Buffer,
  signal: AbortSignal,
): Promise<void> {
  for (let position = start; position < end; ) {
    signal.throwIfAborted();
    const wanted = Math.min(buffer.length, end - position);
    const { bytesRead } = await source.read(buffer, 0, wanted, position);
    if (bytesRead === 0) return; // truncated meanwhile: the rest is a hole
    await target.writev([buffer.subarray(0, bytesRead)], position);
    position += bytesRead;
  }
}

/** The next data or hole at or after `offset`; undefined when there is none. */
function seek(file: FileHandle, offset: number, whence: number, path: string): number | undefined {
  const { lseek, errno } = libc();
  const found = Number(lseek(file.fd, offset, whence));
  if (found >= 0) return found;
  if (errno() === ENXIO) return undefined;
  throw systemError('lseek', path);
}
