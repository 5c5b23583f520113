import type { Timing } from '../base/phases.ts';
import type { ContainerRecord } from './containerRecord.ts';
import type { EngineEvent } from './views.ts';

type Event = Omit<EngineEvent, 'timeNs'>;

/** An event of a container as Docker has it: its labels, image and name are attributes. */
export function containerEvent(
  { id, name, config }: ContainerRecord,
  action: string,
  attributes: Readonly<Record<string, string>> = {},
): Event {
  return {
    type: 'container',
    action,
    id,
    attributes: { ...config.labels, image: config.image, name, ...attributes },
  };
}

/** What a change of a container's record, which is on disk already, means to who follows events. */
export function eventsOfChange(
  before: ContainerRecord | undefined,
  after: ContainerRecord | undefined,
): Event[] {
  if (after === undefined) return before === undefined ? [] : [containerEvent(before, 'destroy')];
  if (before === undefined) return [containerEvent(after, 'create')];
  const events: Event[] = [];
  const [was, is] = [before.state.status, after.state.status];
  if (was !== is && is === 'running') events.push(containerEvent(after, 'start'));
  if (was === 'running' && is === 'exited') events.push(...endEvents(after));
  if (before.name !== after.name) {
    events.push(containerEvent(after, 'rename', { oldName: `/${before.name}` }));
  }
  return events;
}

/** How a microVM came to be, and how long each phase took, milliseconds as `phase.NAME`: beside Docker's events. */
export function launchEvent(record: ContainerRecord, { launch, phases }: Timing): Event {
  const durations = phases.map(({ name, durationMs }) => [`phase.${name}`, durationMs.toFixed(3)]);
  return containerEvent(record, 'launch', {
    ...(launch && { launch: launch.kind }),
    ...(launch?.reason !== undefined && { 'launch.reason': launch.reason }),
    ...Object.fromEntries(durations),
  });
}

/**
 * What a daemon that died between the change of a record and its event still owes: the log names `events`, the records
 * that there are now tell what is true.
 */
export function owedEvents(events: readonly EngineEvent[], records: readonly ContainerRecord[]): Event[] {
  const last = new Map<string, EngineEvent>();
  for (const event of events) {
    if (['create', 'start', 'die', 'destroy'].includes(event.action)) last.set(event.id, event);
  }
  const owed: Event[] = [];
  for (const record of records) {
    const known = last.get(record.id)?.action;
    last.delete(record.id);
    // One whose events were dropped long ago owes nothing.
    if (known === undefined) continue;
    if (record.state.status === 'running' && known !== 'start') owed.push(containerEvent(record, 'start'));
    if (record.state.status === 'exited' && known === 'start') owed.push(...endEvents(record));
  }
  for (const { action, id, attributes } of last.values()) {
    const { exitCode: _ofItsEnd, ...own } = attributes;
    if (action !== 'destroy') owed.push({ type: 'container', action: 'destroy', id, attributes: own });
  }
  return owed;
}

function endEvents(record: ContainerRecord): Event[] {
  const { exitCode, oomKilled } = record.state;
  const die = containerEvent(record, 'die', { exitCode: String(exitCode) });
  return oomKilled ? [containerEvent(record, 'oom'), die] : [die];
}
