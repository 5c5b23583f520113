import { type FileHandle, open, rename, stat } from 'node:fs/promises';
import { Change } from '../base/change.ts';
import { errnoOf, HrunError } from '../base/errors.ts';

/**
 * The output of a container's init process on disk: what `logs`, `attach` and a front door that comes back read.
 *
 * A file of records, each a 32-byte little-endian header and its bytes:
 *
 *     0  u8   stream: 1 stdout (with a terminal: everything), 2 stderr
 *     4  u32  length of the bytes, 1 to 1 MiB
 *     8  u64  offset of the first byte in its stream
 *    16  u64  length of the other stream so far
 *    24  u64  when the daemon received it, nanoseconds since the epoch
 *
 * So the last record tells how far both streams are. A log larger than its limit is rotated once, to `.1`.
 *
 * A torn record at the end (the daemon or the host died while writing) is cut off when the log is opened again;
 * the agent still has its bytes, since they are acknowledged only after they were appended.
 */
const headerBytes = 32;
const maxRecordBytes = 1024 * 1024;

export type OutputStream = 'stdout' | 'stderr';

/** First byte of each stream that a reader does not have yet. */
export interface OutputPosition {
  stdout: bigint;
  stderr: bigint;
}

export interface OutputRecord {
  readonly stream: OutputStream;
  readonly offset: bigint;
  readonly timeNs: bigint;
  readonly data: Uint8Array;
}

/** Appends to the log of one container. One writer per log. */
export class OutputLog implements AsyncDisposable {
  readonly path: string;
  readonly #maxBytes: number;
  #file: FileHandle;
  #size: number;
  #lengths: Record<OutputStream, bigint>;
  readonly #changed = new Change();
  readonly #followers = new Set<OutputPosition>();
  #ended = false;
  #generation = 0;
  #changes = 0;

  private constructor(
    path: string,
    maxBytes: number,
    file: FileHandle,
    size: number,
    lengths: Record<OutputStream, bigint>,
  ) {
    this.path = path;
    this.#maxBytes = maxBytes;
    this.#file = file;
    this.#size = size;
    this.#lengths = lengths;
  }

  /** Opens the log for appending, creating it, or cutting off a torn record of a writer that died. */
  static async open(path: string, maxBytes: number): Promise<OutputLog> {
    await using undo = new AsyncDisposableStack();
    const file = undo.adopt(await open(path, 'a+', 0o600), (f) => f.close());
    const { size } = await file.stat();
    const scan = await scanRecords(file, size);
    if (scan.end < size) await file.truncate(scan.end);
    const lengths = scan.end === 0 ? await lengthsOfRotated(path) : scan.lengths;
    undo.move();
    return new OutputLog(path, maxBytes, file, scan.end, lengths);
  }

  /** Bytes of each stream that are in the log: where the agent is asked to go on from. */
  get lengths(): Readonly<Record<OutputStream, bigint>> {
    return this.#lengths;
  }

  /** True once `end` was called: no record will follow. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Size of the current file, bytes; `followOutput` reads up to here. */
  get size(): number {
    return this.#size;
  }

  /** Counts rotations: a reader that sees it change goes on at the start of the new file. */
  get generation(): number {
    return this.#generation;
  }

  /** Counts what `nextChange` waits for, so that a reader can tell whether it missed one. */
  get changes(): number {
    return this.#changes;
  }

  /**
   * Waits until no registered reader is more than `limitBytes` behind, so that a reader that stops reading stops the
   * writer (as a pipe would).
   * @throws the reason of `signal`
   */
  async whenCaughtUp(limitBytes: number, signal: AbortSignal): Promise<void> {
    const limit = BigInt(limitBytes);
    const total = () => this.#lengths.stdout + this.#lengths.stderr;
    const behind = () => [...this.#followers].some((f) => total() - f.stdout - f.stderr > limit);
    while (behind()) await this.nextChange(signal);
  }

  /** Registers a reader for `whenCaughtUp`; it updates `position` and calls `moved`. */
  pin(position: OutputPosition): { moved: () => void; unpin: () => void } {
    this.#followers.add(position);
    return {
      moved: () => this.#notify(),
      unpin: () => {
        this.#followers.delete(position);
        this.#notify();
      },
    };
  }

  /** Settles at the next append, rotation, end or move of a reader. @throws the reason of `signal` */
  nextChange(signal: AbortSignal): Promise<void> {
    return this.#changed.next(signal);
  }

  /** Appends one chunk; bytes that the log already has are dropped, a gap is an error of the caller. */
  async append(stream: OutputStream, offset: bigint, data: Uint8Array, timeNs: bigint): Promise<void> {
    const have = this.#lengths[stream];
    if (offset > have) {
      throw new HrunError('AGENT_PROTOCOL', `${stream} of ${this.path} jumps from byte ${have} to ${offset}`);
    }
    const fresh = data.subarray(Number(have - offset));
    if (fresh.length === 0) return;
    if (this.#size > 0 && this.#size + fresh.length > this.#maxBytes) await this.#rotate();
    const header = Buffer.alloc(headerBytes);
    header.writeUInt8(stream === 'stdout' ? 1 : 2, 0);
    header.writeUInt32LE(fresh.length, 4);
    header.writeBigUInt64LE(have, 8);
    header.writeBigUInt64LE(this.#lengths[stream === 'stdout' ? 'stderr' : 'stdout'], 16);
    header.writeBigUInt64LE(timeNs, 24);
    await this.#file.writev([header, fresh]);
    this.#size += headerBytes + fresh.length;
    this.#lengths = { ...this.#lengths, [stream]: have + BigInt(fresh.length) };
    this.#notify();
  }

  /** Says that no record will follow, so that followers end. */
  end(): void {
    this.#ended = true;
    this.#notify();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.end();
    await this.#file.close();
  }

  async #rotate(): Promise<void> {
    await rename(this.path, rotatedPath(this.path));
    const next = await open(this.path, 'a+', 0o600);
    await this.#file.close();
    this.#file = next;
    this.#size = 0;
    this.#generation += 1;
  }

  #notify(): void {
    this.#changes += 1;
    this.#changed.notify();
  }
}

function rotatedPath(path: string): string {
  return `${path}.1`;
}

/** The files of a log that exist, oldest first. */
export async function outputLogFiles(path: string): Promise<string[]> {
  const files: string[] = [];
  for (const file of [rotatedPath(path), path]) {
    const found = await stat(file).then(
      () => true,
      (error: unknown) => {
        if (errnoOf(error) === 'ENOENT') return false;
        throw error;
      },
    );
    if (found) files.push(file);
  }
  return files;
}

/** Reads the record at `position`; undefined at the end or for a torn one. */
export async function readRecord(
  file: FileHandle,
  position: number,
  end: number,
): Promise<{ record: OutputRecord; next: number } | undefined> {
  const header = await readHeader(file, position, end);
  if (header === undefined) return undefined;
  const data = Buffer.alloc(header.length);
  await file.read(data, 0, header.length, position + headerBytes);
  const { stream, offset, timeNs } = header;
  return { record: { stream, offset, timeNs, data }, next: position + headerBytes + header.length };
}

interface Header {
  readonly stream: OutputStream;
  readonly length: number;
  readonly offset: bigint;
  readonly otherLength: bigint;
  readonly timeNs: bigint;
}

async function readHeader(file: FileHandle, position: number, end: number): Promise<Header | undefined> {
  if (position + headerBytes > end) return undefined;
  const bytes = Buffer.alloc(headerBytes);
  const { bytesRead } = await file.read(bytes, 0, headerBytes, position);
  const kind = bytes.readUInt8(0);
  const length = bytes.readUInt32LE(4);
  const whole = bytesRead === headerBytes && position + headerBytes + length <= end;
  if (!whole || (kind !== 1 && kind !== 2) || length === 0 || length > maxRecordBytes) return undefined;
  return {
    stream: kind === 1 ? 'stdout' : 'stderr',
    length,
    offset: bytes.readBigUInt64LE(8),
    otherLength: bytes.readBigUInt64LE(16),
    timeNs: bytes.readBigUInt64LE(24),
  };
}

async function scanRecords(
  file: FileHandle,
  size: number,
): Promise<{ end: number; lengths: Record<OutputStream, bigint> }> {
  const lengths: Record<OutputStream, bigint> = { stdout: 0n, stderr: 0n };
  let end = 0;
  for (;;) {
    const header = await readHeader(file, end, size);
    if (header === undefined) return { end, lengths };
    lengths[header.stream] = header.offset + BigInt(header.length);
    lengths[header.stream === 'stdout' ? 'stderr' : 'stdout'] = header.otherLength;
    end += headerBytes + header.length;
  }
}

async function lengthsOfRotated(path: string): Promise<Record<OutputStream, bigint>> {
  try {
    await using file = await open(rotatedPath(path), 'r');
    return (await scanRecords(file, (await file.stat()).size)).lengths;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return { stdout: 0n, stderr: 0n };
    throw error;
  }
}
