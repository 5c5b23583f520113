import { endAt } from './endAt.ts';
import type { LogsRequest } from './engine.ts';
import { followOutput } from './followOutput.ts';
import type { OutputPosition } from './logRecord.ts';
import type { OutputLog } from './outputLog.ts';
import type { LogChunk } from './views.ts';

const newline = 0x0a;
const nanosecondsPerMs = 1_000_000n;

/**
 * What `logs` shows of a container: from `sinceMs` or the last `tailLines` on, and what is appended later when
 * `follow`, up to `untilMs`. Times are those at which the daemon received the bytes.
 * @throws the reason of `signal`
 */
export async function* readLogs(
  log: OutputLog,
  request: Omit<LogsRequest, 'container'>,
  signal: AbortSignal,
): AsyncGenerator<LogChunk> {
  const beginning: OutputPosition = { stdout: 0n, stderr: 0n };
  const { tailLines, sinceMs, untilMs } = request;
  const follow = request.follow && (untilMs === undefined || untilMs > Date.now());
  const from = tailLines === undefined ? beginning : await tailPosition(log, tailLines, signal);
  const sinceNs = sinceMs === undefined ? 0n : BigInt(Math.floor(sinceMs)) * nanosecondsPerMs;
  const untilNs = untilMs === undefined ? undefined : BigInt(Math.floor(untilMs)) * nanosecondsPerMs;
  using end = endAt(follow ? untilMs : undefined);
  const records = followOutput(log, { from, follow, end: end.signal, holdWriter: false }, signal);
  for await (const { stream, timeNs, data } of records) {
    if (untilNs !== undefined && timeNs > untilNs) {
      if (follow && untilMs !== undefined && Date.now() > untilMs) return;
      // the clock was set back since: others may have come before that moment
      continue;
    }
    if (timeNs >= sinceNs) yield { stream, timeNs, bytes: data };
  }
}

/** Where the last `lines` lines of both streams together begin. */
async function tailPosition(log: OutputLog, lines: number, signal: AbortSignal): Promise<OutputPosition> {
  const end: OutputPosition = { ...log.lengths };
  if (lines === 0) return end;
  /** The begins of the last `lines` lines, as a ring. */
  const begins: OutputPosition[] = [];
  let count = 0;
  const atLineStart = { stdout: true, stderr: true };
  const position: OutputPosition = { stdout: 0n, stderr: 0n };
  const options = { from: { ...position }, follow: false, holdWriter: false };
  for await (const { stream, offset, data } of followOutput(log, options, signal)) {
    for (let at = 0; at < data.length; ) {
      position[stream] = offset + BigInt(at);
      if (atLineStart[stream]) begins[count++ % lines] = { ...position };
      const next = data.indexOf(newline, at);
      atLineStart[stream] = next >= 0;
      at = next < 0 ? data.length : next + 1;
    }
    position[stream] = offset + BigInt(data.length);
  }
  if (count <= lines) return { stdout: 0n, stderr: 0n };
  return begins[count % lines] ?? end;
}
