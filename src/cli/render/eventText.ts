import { printable } from '../../base/text.ts';
import type { EngineEvent } from '../../runtime/views.ts';
import { type Filters, passes, passesLabels } from '../parse/filters.ts';
import { localNanoTime } from './nanoTime.ts';

export const eventFilterKeys = ['container', 'event', 'image', 'label', 'type'];

const maxLength = 10_000;

/** One event as `docker events` prints it. */
export function eventText({ type, action, id, attributes, timeNs }: EngineEvent): string {
  const list = sortedEntries(attributes)
    .map(([name, value]) => `${name}=${value}`)
    .join(', ');
  const text = `${type} ${action} ${id}${list === '' ? '' : ` (${list})`}`;
  return `${localNanoTime(timeNs)} ${printable(text, maxLength)}`;
}

/**
 * One event as templates see it (`.Type`, `.Actor.Attributes.name`); as JSON it has Docker's names, some of which
 * begin with a small letter.
 */
export function eventObject({ type, action, id, attributes, timeNs }: EngineEvent): object {
  const time = Number(timeNs / 1_000_000_000n);
  const from = attributes.image ?? '';
  const actor = { ID: id, Attributes: new Map(sortedEntries(attributes)) };
  const own = { Type: type, Action: action, Actor: actor };
  const old = type === 'container' ? { status: action, id, from } : { status: action, id };
  const json = { ...old, ...own, scope: 'local', time, timeNano: timeNs };
  const fields = {
    Status: action,
    ID: id,
    From: from,
    ...own,
    Scope: 'local',
    Time: time,
    TimeNano: timeNs,
  };
  return Object.defineProperty(fields, 'toJSON', { value: () => json });
}

function sortedEntries(attributes: EngineEvent['attributes']): [string, string][] {
  return Object.entries(attributes).toSorted(([a], [b]) => (a < b ? -1 : 1));
}

/** Docker's rules: a container by name or the beginning of its id, an image by name with or without its tag. */
export function passesFilters({ type, action, id, attributes }: EngineEvent, filters: Filters): boolean {
  const names = type === 'image' ? [id, attributes.name ?? ''] : [attributes.image ?? ''];
  return (
    passes(filters, 'type', (value) => type === value) &&
    passes(filters, 'event', (value) => action === value || action.startsWith(`${value}:`)) &&
    passes(
      filters,
      'container',
      (value) =>
        type === 'container' && (id.startsWith(value) || attributes.name === value.replace(/^\//, '')),
    ) &&
    passes(filters, 'image', (value) =>
      names.some((name) => name === value || name.replace(/:[^:/]+$/, '') === value),
    ) &&
    passesLabels(filters, attributes)
  );
}
