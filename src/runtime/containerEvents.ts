import type { Timing } from '../base/phases.ts';
import type { ContainerRecord } from './containerRecord.ts';
import type { EngineEvent } from './views.ts';

export type Event = Omit<EngineEvent, 'timeNs'>;

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
export function launchEvent(record: ContainerRecord, timing: Timing): Event {
  return containerEvent(record, 'launch', launchAttributes(timing));
}

/** Of a `launch` event. */
export function launchAttributes({ launch, phases }: Timing): Record<string, string> {
  const durations = phases.map(({ name, durationMs }) => [`phase.${name}`, durationMs.toFixed(3)]);
  return {
    ...(launch && { launch: launch.kind }),
    ...(launch?.reason !== undefined && { 'launch.reason': launch.reason }),
    ...Object.fromEntries(durations),
  };
}

/** What a container that is there may still owe the log. */
export interface Life {
  readonly id: string;
  /** What has happened since `last`, the last that the log tells of it, one of `lifeActions`. */
  owes(last: string): Event[];
}

/** Events that follow from records, and are told by the next daemon when the last one could not. */
const lifeActions = ['create', 'start', 'die', 'destroy'];

/** As Life. */
export function lifeOf(record: ContainerRecord): Life {
  const { status } = record.state;
  return {
    id: record.id,
    owes(last) {
      if (status === 'running' && last !== 'start') return [containerEvent(record, 'start')];
      return status === 'exited' && last === 'start' ? endEvents(record) : [];
    },
  };
}

/**
 * What a daemon that died between the change of a record and its event still owes: the log names `events`, `lives` are the
 * containers that there are now.
 */
export function owedEvents(events: readonly EngineEvent[], lives: readonly Life[]): Event[] {
  const last = new Map<string, EngineEvent>();
  for (const event of events) {
    if (event.type === 'container' && lifeActions.includes(event.action)) last.set(event.id, event);
  }
  const owed: Event[] = [];
  for (const life of lives) {
    const known = last.get(life.id)?.action;
    last.delete(life.id);
    // One whose events were dropped long ago owes nothing.
    if (known !== undefined) owed.push(...life.owes(known));
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
