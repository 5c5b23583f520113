import type { Timing } from '../../base/phases.ts';
import { type Event, type Life, launchAttributes } from '../containerEvents.ts';
import type { OciRecord } from './ociRecord.ts';

/** An event of a manager's container: its annotations are what labels are elsewhere, and `name` is the manager's id. */
export function ociEvent(
  { id, name, bundle, annotations }: OciRecord,
  action: string,
  attributes: Readonly<Record<string, string>> = {},
): Event {
  return { type: 'container', action, id, attributes: { ...annotations, bundle, name, ...attributes } };
}

/** What a change of a record, which is on disk already, means to who follows events. */
export function ociEventsOfChange(before: OciRecord | undefined, after: OciRecord | undefined): Event[] {
  // What was never finished is a container to nobody.
  const was = before?.status === 'creating' ? undefined : before;
  const is = after?.status === 'creating' ? undefined : after;
  if (is === undefined) return was === undefined ? [] : [ociEvent(was, 'destroy')];
  if (was === undefined) return [ociEvent(is, 'create')];
  const events: Event[] = [];
  if (was.status !== is.status && is.status === 'running') events.push(ociEvent(is, 'start'));
  if (was.status !== is.status && is.status === 'stopped') events.push(...endEvents(is));
  else if (was.paused !== is.paused) events.push(ociEvent(is, is.paused ? 'pause' : 'unpause'));
  return events;
}

/** As Life. */
export function ociLifeOf(record: OciRecord): Life {
  const { id, status } = record;
  return {
    id,
    owes(last) {
      if (status === 'running' && last !== 'start') return [ociEvent(record, 'start')];
      return status === 'stopped' && last !== 'die' ? endEvents(record) : [];
    },
  };
}

/** How its microVM came to be, and how long each phase of `create` took. */
export function ociLaunchEvent(record: OciRecord, timing: Timing): Event {
  return ociEvent(record, 'launch', launchAttributes(timing));
}

function endEvents(record: OciRecord): Event[] {
  const die = ociEvent(record, 'die', { exitCode: String(record.exitCode) });
  return record.oomKilled ? [ociEvent(record, 'oom'), die] : [die];
}
