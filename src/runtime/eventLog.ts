import { rename, rm } from 'node:fs/promises';
import { z } from 'zod';
import { reasonOf } from '../base/damage.ts';
import { messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { clip } from '../base/text.ts';
import { followOutput } from './followOutput.ts';
import type { OutputRecord } from './logRecord.ts';
import { OutputLog } from './outputLog.ts';
import type { EngineEvent } from './views.ts';

/** Size of one of the two files, bytes: some five thousand events. */
const maxFileBytes = 1024 * 1024;
/** Labels of an image may be long, and come from anybody. */
const maxValueLength = 2048;
const maxAttributes = 200;
const never = new AbortController().signal;

const EventSchema = z.object({
  version: z.literal(1),
  type: z.enum(['container', 'image']),
  action: z.string(),
  id: z.string(),
  attributes: z.record(z.string(), z.string()),
});

/** Who tells what happened. Never fails: an event that cannot be kept is no reason to fail what it is about. */
export interface EventSink {
  record(event: Omit<EngineEvent, 'timeNs'>): void;
}

/**
 * What happened to containers and images, on disk: bounded (two files, the older one goes), and whole after a crash of
 * the daemon, which loses at most the event that was being written.
 */
export class EventLog implements EventSink, AsyncDisposable {
  readonly #log: OutputLog;
  readonly #daemonLog: Log;
  #appending: Promise<void> = Promise.resolve();

  private constructor(log: OutputLog, daemonLog: Log) {
    this.#log = log;
    this.#daemonLog = daemonLog;
  }

  static async open(path: string, daemonLog: Log, maxBytes = maxFileBytes): Promise<EventLog> {
    const onLoss = (cause: unknown) => daemonLog.warn({ error: messageOf(cause) }, 'events are not kept');
    const open = () => OutputLog.open(path, { maxBytes, maxFiles: 2, onLoss });
    const log = await open().catch(async (cause: unknown) => {
      // what happened is gone; what happens is told
      const kept = `${path}.damaged`;
      await rm(kept, { recursive: true, force: true });
      await rename(path, kept);
      daemonLog.error(
        { path: kept, reason: reasonOf(cause) },
        'the log of events cannot be read, and begins anew',
      );
      return await open();
    });
    return new EventLog(log, daemonLog);
  }

  record({ type, action, id, attributes }: Omit<EngineEvent, 'timeNs'>): void {
    const bounded = Object.entries(attributes)
      .slice(0, maxAttributes)
      .map(([name, value]) => [clip(name, maxValueLength), clip(value, maxValueLength)]);
    const event: z.infer<typeof EventSchema> = {
      version: 1,
      type,
      action: clip(action, maxValueLength),
      id,
      attributes: Object.fromEntries(bounded),
    };
    const data = Buffer.from(JSON.stringify(event));
    // As the host's clock has it, also when that was set back: the order is that of the log.
    const timeNs = BigInt(Date.now()) * 1_000_000n;
    this.#appending = this.#appending
      .then(() => this.#log.append('stdout', this.#log.lengths.stdout, data, timeNs))
      .catch((error: unknown) => this.#daemonLog.warn({ error: messageOf(error) }, 'an event was not kept'));
  }

  /**
   * Events in the order in which they happened: with `past` those that are kept, with `follow` those to come, until `end`.
   * @throws the reason of `signal`
   */
  async *read(
    { past, follow, end }: { readonly past: boolean; readonly follow: boolean; readonly end?: AbortSignal },
    signal: AbortSignal,
  ): AsyncGenerator<EngineEvent> {
    await this.#appending;
    const from = past ? { stdout: 0n, stderr: 0n } : { ...this.#log.lengths };
    const options = { from, follow, holdWriter: false, ...(end && { end }) };
    for await (const record of followOutput(this.#log, options, signal)) {
      const event = parseEvent(record);
      if (event !== undefined) yield event;
    }
  }

  /** All that are kept. */
  async kept(): Promise<EngineEvent[]> {
    const events: EngineEvent[] = [];
    for await (const event of this.read({ past: true, follow: false }, never)) events.push(event);
    return events;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#appending;
    await this.#log[Symbol.asyncDispose]();
  }
}

/** Undefined for one that another version of hrun wrote. */
function parseEvent({ data, timeNs }: OutputRecord): EngineEvent | undefined {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(data).toString());
  } catch {
    return undefined;
  }
  const parsed = EventSchema.safeParse(json);
  if (!parsed.success) return undefined;
  const { type, action, id, attributes } = parsed.data;
  return { type, action, id, attributes, timeNs };
}
