import { Option } from 'commander';
import { HrunError } from '../../base/errors.ts';
import type { LogsRequest } from '../../runtime/engine.ts';
import type { LogChunk } from '../../runtime/views.ts';
import { exitCodes } from '../exitCodes.ts';
import { parseMomentMs } from '../flags.ts';
import { utcNanoTime } from '../render/nanoTime.ts';
import type { Verb } from '../verb.ts';

interface LogsFlags {
  readonly follow?: true;
  readonly since?: string;
  readonly tail: string;
  readonly timestamps?: true;
  readonly until?: string;
}

export const logs: Verb = {
  configure(command) {
    command.option('-f, --follow', 'Go on with what comes');
    command.option('--since <time>', 'Output from then on: 2026-01-31T12:00:00Z, or 10m for ten minutes ago');
    command.addOption(new Option('-n, --tail <lines>', 'Number of lines from the end').default('all'));
    command.option('-t, --timestamps', 'Show when each line was written');
    command.option('--until <time>', 'Output before then');
  },

  async run(command, context) {
    const flags = command.opts<LogsFlags>();
    const request = logsRequest(flags, command.args[0] ?? '', context.deps.now());
    const engine = await context.deps.engine();
    const stamp = flags.timestamps ? lineStamper() : ({ bytes }: LogChunk) => bytes;
    const { stdout } = context.session;
    // `logs -f | head -1` has nobody to wait for once head is gone, whether or not more output comes.
    const wanted = AbortSignal.any([context.signal, stdout.closed]);
    try {
      for await (const chunk of engine.containers.logs(request, wanted)) {
        await context.session[chunk.stream].write(stamp(chunk), wanted);
      }
    } catch (error) {
      if (!stdout.closed.aborted || context.signal.aborted) throw error;
    }
    return exitCodes.ok;
  },
};

/** @throws HrunError INVALID_ARGUMENT for a wrong time or number */
export function logsRequest(flags: LogsFlags, container: string, nowMs: number): LogsRequest {
  const { follow, since, tail, until } = flags;
  if (tail !== 'all' && !/^-?\d+$/.test(tail)) {
    throw new HrunError('INVALID_ARGUMENT', `--tail ${tail}: not a number of lines`);
  }
  return {
    container,
    follow: follow === true,
    // Docker takes a negative number for all of them.
    ...(tail !== 'all' && Number(tail) >= 0 && { tailLines: Number(tail) }),
    ...(since !== undefined && { sinceMs: parseMomentMs(since, nowMs) }),
    ...(until !== undefined && { untilMs: parseMomentMs(until, nowMs) }),
  };
}

/** Puts the time of its first byte before each line; a line may come in several chunks. */
export function lineStamper(): (chunk: LogChunk) => Uint8Array {
  const atLineStart = { stdout: true, stderr: true };
  return ({ stream, timeNs, bytes }) => {
    const stamp = Buffer.from(`${utcNanoTime(timeNs)} `);
    const parts: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; ) {
      if (atLineStart[stream]) parts.push(stamp);
      const newline = bytes.indexOf(10, at);
      const end = newline < 0 ? bytes.length : newline + 1;
      parts.push(bytes.subarray(at, end));
      atLineStart[stream] = newline >= 0;
      at = end;
    }
    return Buffer.concat(parts);
  };
}
