import type { EventsRequest } from '../../runtime/engine.ts';
import { exitCodes } from '../exitCodes.ts';
import { parseMomentMs } from '../flags.ts';
import { addFilters, parseFilters } from '../parse/filters.ts';
import { eventFilterKeys, eventObject, eventText, passesFilters } from '../render/eventText.ts';
import { lineJson } from '../render/json.ts';
import { compileTemplate } from '../render/template.ts';
import type { Verb } from '../verb.ts';

interface EventsFlags {
  readonly filter: readonly string[];
  readonly format?: string;
  readonly since?: string;
  readonly until?: string;
}

export const events: Verb = {
  configure(command) {
    addFilters(command, eventFilterKeys);
    command.option('--format <format>', 'json, or a Go template');
    command.option('--since <time>', 'What happened since: 2026-01-31T12:00:00Z, or 10m for ten minutes ago');
    command.option('--until <time>', 'End at this time');
  },

  async run(command, context) {
    const { filter, format, since, until } = command.opts<EventsFlags>();
    const nowMs = context.deps.now();
    const request: EventsRequest = {
      ...(since !== undefined && { sinceMs: parseMomentMs(since, nowMs) }),
      ...(until !== undefined && { untilMs: parseMomentMs(until, nowMs) }),
    };
    const filters = parseFilters(filter, eventFilterKeys);
    const template = format === undefined || format === 'json' ? undefined : compileTemplate(format);
    const { stdout } = context.session;
    const engine = await context.deps.engine();
    // `events | head -1` has nobody to wait for once head is gone, whether or not more happens.
    const wanted = AbortSignal.any([context.signal, stdout.closed]);
    try {
      for await (const event of engine.system.events(request, wanted)) {
        if (!passesFilters(event, filters)) continue;
        let line = eventText(event);
        if (format === 'json') line = lineJson(eventObject(event));
        else if (template !== undefined) line = template(eventObject(event));
        await stdout.write(Buffer.from(`${line}\n`), wanted);
      }
    } catch (error) {
      if (!stdout.closed.aborted || context.signal.aborted) throw error;
    }
    return exitCodes.ok;
  },
};
