import { type FileHandle, open, rm, statfs } from 'node:fs/promises';
import { backoff } from '../base/backoff.ts';
import { Change } from '../base/change.ts';
import { errnoOf, HrunError } from '../base/errors.ts';
import { dropOldFiles, type LogLimits, nextFilePath, outputLogFiles, rotateFiles } from './logFiles.ts';
import {
  headerBytes,
  type OutputPosition,
  type OutputRecord,
  type OutputStream,
  otherThan,
  recordHeader,
  scanRecords,
} from './logRecord.ts';

const start: OutputPosition = { stdout: 0n, stderr: 0n };
/** Of the disk: left to state files, which tell how a container ended. It is looked at again after so much output. */
const reservedBytes = 4 * 1024 * 1024;
const lookEveryBytes = 256 * 1024;
const never = new AbortController().signal;

export interface LogOptions extends LogLimits {
  /** Told when the disk is so full that something is left out; again once there was room. */
  readonly onLoss?: (cause: unknown) => void;
}

/**
 * The output of a container's init process on disk: what `logs`, `attach` and a front door that comes back read. Files of
 * records (logRecord.ts); one larger than its limit is rotated to `.1`, that to `.2`, and so on (logFiles.ts).
 *
 * A torn record at the end (the daemon or the host died while writing) is cut off when the log is opened again;
 * the agent still has its bytes, since they are acknowledged only after they were appended.
 *
 * One writer per log.
 */
export class OutputLog implements AsyncDisposable {
  readonly path: string;
  readonly #options: LogOptions;
  #file: FileHandle;
  #size: number;
  #lengths: Readonly<OutputPosition>;
  readonly #changed = new Change();
  readonly #followers = new Set<OutputPosition>();
  #ended = false;
  #generation = 0;
  #changes = 0;
  #losing = false;
  #unlookedBytes = 0;

  private constructor(
    path: string,
    options: LogOptions,
    file: FileHandle,
    size: number,
    lengths: OutputPosition,
  ) {
    this.path = path;
    this.#options = options;
    this.#file = file;
    this.#size = size;
    this.#lengths = lengths;
  }

  /** Opens the log for appending, creating it, or cutting off a torn record of a writer that died. */
  static async open(path: string, options: LogOptions): Promise<OutputLog> {
    await using undo = new AsyncDisposableStack();
    await rm(nextFilePath(path), { force: true });
    const base = await lengthsOfOld(path);
    const file = undo.adopt(await open(path, 'a+', 0o600), (f) => f.close());
    const { size } = await file.stat();
    const { end, lengths } = await scanRecords(file, size, base);
    if (end < size) await file.truncate(end);
    undo.move();
    return new OutputLog(path, options, file, end, lengths);
  }

  /** Bytes of each stream that are in the log: where the agent is asked to go on from. */
  get lengths(): Readonly<OutputPosition> {
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

  /**
   * Appends one chunk; bytes that the log already has are dropped, a gap is an error of the caller. When the disk is full,
   * older files make room; then a log that somebody is attached to waits for room until `signal` fires, since that
   * command must get every byte, and any other goes on without these.
   */
  async append(
    stream: OutputStream,
    offset: bigint,
    data: Uint8Array,
    timeNs: bigint,
    signal: AbortSignal = never,
  ): Promise<void> {
    const have = this.#lengths[stream];
    if (offset > have) {
      throw new HrunError('AGENT_PROTOCOL', `${stream} of ${this.path} jumps from byte ${have} to ${offset}`);
    }
    const fresh = data.subarray(Number(have - offset));
    if (fresh.length === 0) return;
    await this.#keep({ stream, offset: have, timeNs, data: fresh }, signal);
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

  async #keep(record: OutputRecord, signal: AbortSignal): Promise<void> {
    const pauses = backoff(10, 1000);
    for (;;) {
      try {
        await this.#write(record);
        this.#losing = false;
        return;
      } catch (cause) {
        if (!isFull(cause)) throw cause;
        if (await dropOldFiles(this.path)) continue;
        if (await this.#givesWay(record)) return;
        if (!this.#losing) this.#options.onLoss?.(cause);
        this.#losing = true;
        if (this.#followers.size === 0 || signal.aborted) return;
      }
      await pauses.pause(signal).catch(() => {});
    }
  }

  /** Gives up the current file, if that is worth it, for one with `record`. @returns whether that is kept now */
  async #givesWay(record: OutputRecord): Promise<boolean> {
    if (this.#size < lookEveryBytes) return false;
    try {
      await this.#writeToNext(record);
    } catch (cause) {
      if (!isFull(cause)) throw cause;
      return false;
    }
    await dropOldFiles(this.path);
    return true;
  }

  async #write(record: OutputRecord): Promise<void> {
    await this.#lookForRoom(record.data.length);
    if (this.#size > 0 && this.#size + record.data.length > this.#options.maxBytes) {
      return await this.#writeToNext(record);
    }
    try {
      await writeWhole(this.#file, this.#headerOf(record), record.data);
    } catch (cause) {
      // a torn record would hide those that come after it
      await this.#file.truncate(this.#size);
      throw cause;
    }
    this.#size += headerBytes + record.data.length;
  }

  /** @throws an ENOSPC when what is left is for others */
  async #lookForRoom(bytes: number): Promise<void> {
    this.#unlookedBytes += bytes;
    // a small file may have of what is reserved
    if (this.#unlookedBytes < lookEveryBytes || this.#size < lookEveryBytes) return;
    const { bavail, bsize } = await statfs(this.path);
    if (bavail * bsize < reservedBytes) {
      throw Object.assign(new Error(`there is no room for ${this.path}`), { code: 'ENOSPC' });
    }
    this.#unlookedBytes = 0;
  }

  /** The first record of the next file is there before the file is: from it is known how far both streams were. */
  async #writeToNext(record: OutputRecord): Promise<void> {
    // who holds the writer back must have the oldest file behind it, which goes
    await this.whenCaughtUp(0, never);
    await using undo = new AsyncDisposableStack();
    const path = nextFilePath(this.path);
    undo.defer(() => rm(path, { force: true }));
    const next = undo.adopt(await open(path, 'a+', 0o600), (file) => file.close());
    await writeWhole(next, this.#headerOf(record), record.data);
    await rotateFiles(this.path, this.#options.maxFiles);
    undo.move();
    await this.#file.close();
    this.#file = next;
    this.#size = headerBytes + record.data.length;
    this.#generation += 1;
  }

  #headerOf(record: OutputRecord): Buffer {
    return recordHeader(record, this.#lengths[otherThan(record.stream)]);
  }

  #notify(): void {
    this.#changes += 1;
    this.#changed.notify();
  }
}

/** @throws the system error when not all of it could be written */
async function writeWhole(file: FileHandle, header: Buffer, data: Uint8Array): Promise<void> {
  const { bytesWritten } = await file.writev([header, data]);
  if (bytesWritten === header.length + data.length) return;
  const whole = Buffer.concat([header, data]);
  // the rest of a write that was cut short says why
  for (let at = bytesWritten; at < whole.length; ) at += (await file.write(whole, at)).bytesWritten;
}

function isFull(error: unknown): boolean {
  return errnoOf(error) === 'ENOSPC' || errnoOf(error) === 'EDQUOT';
}

/** How long both streams were at the end of the newest file that is no longer written. */
async function lengthsOfOld(path: string): Promise<OutputPosition> {
  const newest = (await outputLogFiles(path)).findLast((file) => file !== path);
  if (newest === undefined) return start;
  await using file = await open(newest, 'r');
  return (await scanRecords(file, (await file.stat()).size, start)).lengths;
}
