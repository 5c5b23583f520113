import { setTimeout as sleep } from 'node:timers/promises';
import { HrunError, isHrunError } from '../../base/errors.ts';
import { notRunningById } from '../../runtime/oci/runcErrors.ts';
import { renderStats } from './eventStats.ts';
import type { OciVerb } from './ociVerb.ts';

export const events: OciVerb = {
  name: 'events',
  summary: 'display container events such as OOM notifications, cpu, memory, and IO usage statistics',
  usage: '[command options] <container-id>',
  args: [1, 1],
  flags: [
    { name: 'interval', kind: 'string', description: 'set the stats collection interval (default: 5s)' },
    { name: 'stats', kind: 'bool', description: "display the container's stats then exit" },
  ],
  async run({ oci, flags, signal, context, name }) {
    const container = name();
    const intervalMs = durationMs(flags.text('interval') ?? '5s');
    const tell = async () => {
      const stats = await oci.stats(container, signal);
      await context.print(`${renderStats(container.id, stats)}\n`);
    };
    if (flags.bool('stats')) {
      await tell();
      return 0;
    }
    if (oci.state(container).status === 'stopped') throw notRunningById(container.id);
    const ended = oci.wait(container, signal);
    ended.catch(() => {});
    for (;;) {
      const over = await Promise.race([ended.then(() => true), sleep(intervalMs, false, { signal })]);
      if (over) return 0;
      try {
        await tell();
      } catch (error) {
        // It stopped in between.
        if (isHrunError(error, 'WRONG_STATE')) return 0;
        throw error;
      }
    }
  },
};

/** Go's duration, as far as anybody writes it: `5s`, `500ms`, `1m`. @throws HrunError INVALID_ARGUMENT */
function durationMs(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text);
  const unit = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[match?.[2] ?? ''];
  const value = Number(match?.[1]);
  if (match === null || unit === undefined || value <= 0) {
    throw new HrunError('INVALID_ARGUMENT', 'duration interval must be greater than 0');
  }
  return value * unit;
}
