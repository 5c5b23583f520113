import { type FileHandle, open } from 'node:fs/promises';
import { outputLogFiles } from './logFiles.ts';
import { type OutputPosition, type OutputRecord, readRecord } from './logRecord.ts';
import type { OutputLog } from './outputLog.ts';

export interface FollowOptions {
  /** Where to begin; records below are skipped, one that straddles it is cut. */
  readonly from: OutputPosition;
  /** Go on with what is appended later, until the log ends. */
  readonly follow: boolean;
  /** Ends the waiting for more, not the reading of what is there. */
  readonly end?: AbortSignal;
  /** Hold the workload back when this reader is slow, as an attached terminal does; `logs -f` does not. */
  readonly holdWriter: boolean;
}

/**
 * The records of a log in the order in which they were written.
 * A reader that does not hold the writer may lose what was rotated away twice while it looked elsewhere.
 * @throws the reason of `signal`
 */
export async function* followOutput(
  log: OutputLog,
  options: FollowOptions,
  signal: AbortSignal,
): AsyncGenerator<OutputRecord> {
  await using files = new AsyncDisposableStack();
  const { end } = options;
  const reader: Reader = {
    log,
    position: { ...options.from },
    moved: () => {},
    end,
    waiting: end === undefined ? signal : AbortSignal.any([signal, end]),
  };
  if (options.holdWriter) {
    const { moved, unpin } = log.pin(reader.position);
    reader.moved = moved;
    files.defer(unpin);
  }
  // All are opened before the first is read, so that a rotation meanwhile takes none away.
  let generation = log.generation;
  const opened: FileHandle[] = [];
  for (const path of await outputLogFiles(log.path)) {
    opened.push(files.adopt(await open(path, 'r'), (file) => file.close()));
  }
  for (const [index, file] of opened.entries()) {
    const waitWhile = index === opened.length - 1 && options.follow ? generation : undefined;
    yield* recordsOf(reader, file, waitWhile, signal);
    // one that is gone from its directory takes up room for as long as it is open
    await file.close();
  }
  while (options.follow && log.generation !== generation) {
    generation = log.generation;
    await using file = await open(log.path, 'r');
    yield* recordsOf(reader, file, generation, signal);
  }
}

interface Reader {
  readonly log: OutputLog;
  readonly position: OutputPosition;
  moved: () => void;
  readonly end: AbortSignal | undefined;
  /** Fires with the end, or with the signal of whoever asked. */
  readonly waiting: AbortSignal;
}

/** Reads one file to its end; with `waitWhile`, until the log has ended or is no longer of that generation. */
async function* recordsOf(
  { log, position, moved, end, waiting }: Reader,
  file: FileHandle,
  waitWhile: number | undefined,
  signal: AbortSignal,
): AsyncGenerator<OutputRecord> {
  for (let at = 0; ; ) {
    signal.throwIfAborted();
    // Taken before the read: what was appended before an end or a rotation is read before either is believed.
    const { changes, ended, generation, lengths } = log;
    const found = await readRecord(file, at, (await file.stat()).size);
    if (found === undefined) {
      if (waitWhile === undefined || ended || generation !== waitWhile || end?.aborted) return;
      // what is missing at the end, for a disk that was full, holds nobody back; a move that is none would wake everybody,
      // this reader too, again and again
      if (position.stdout !== lengths.stdout || position.stderr !== lengths.stderr) {
        Object.assign(position, lengths);
        moved();
      }
      if (log.changes === changes) {
        await log.nextChange(waiting).catch((error: unknown) => {
          if (!end?.aborted || signal.aborted) throw error;
        });
      }
      continue;
    }
    at = found.next;
    const record = withoutKnown(found.record, position);
    if (record === undefined) continue;
    yield record;
    position[record.stream] = record.offset + BigInt(record.data.length);
    moved();
  }
}

function withoutKnown(record: OutputRecord, position: OutputPosition): OutputRecord | undefined {
  const known = position[record.stream] - record.offset;
  if (known <= 0n) return record;
  if (known >= BigInt(record.data.length)) return undefined;
  return { ...record, offset: position[record.stream], data: record.data.subarray(Number(known)) };
}
