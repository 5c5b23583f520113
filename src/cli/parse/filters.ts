import { HrunError } from '../../base/errors.ts';

/** What `--filter` was given, by key; values of one key are alternatives, keys must all hold. */
export type Filters = ReadonlyMap<string, readonly string[]>;

/** @throws HrunError INVALID_ARGUMENT for a filter without value or of an unknown key */
export function parseFilters(texts: readonly string[], known: readonly string[]): Filters {
  const filters = new Map<string, string[]>();
  for (const text of texts) {
    const equals = text.indexOf('=');
    const key = text
      .slice(0, equals < 0 ? undefined : equals)
      .trim()
      .toLowerCase();
    if (equals < 0) {
      throw new HrunError('INVALID_ARGUMENT', `invalid filter "${text}"`, { hint: 'write NAME=VALUE' });
    }
    if (!known.includes(key)) {
      throw new HrunError('INVALID_ARGUMENT', `unknown filter "${key}"`, {
        hint: `the filters are ${known.join(', ')}`,
      });
    }
    filters.set(key, [...(filters.get(key) ?? []), text.slice(equals + 1).trim()]);
  }
  return filters;
}

/** True when one of the filter's values passes, or there is none. */
export function passes(filters: Filters, key: string, test: (value: string) => boolean): boolean {
  const values = filters.get(key);
  return values === undefined || values.some(test);
}

/** Label filters must all hold: `key` or `key=value`. */
export function passesLabels(filters: Filters, labels: Readonly<Record<string, string>>): boolean {
  return (filters.get('label') ?? []).every((wanted) => {
    const equals = wanted.indexOf('=');
    const key = equals < 0 ? wanted : wanted.slice(0, equals);
    return Object.hasOwn(labels, key) && (equals < 0 || labels[key] === wanted.slice(equals + 1));
  });
}

/** A filter that is a regular expression to Docker; one that is none is looked for as it stands. */
export function matches(text: string, pattern: string): boolean {
  try {
    return new RegExp(pattern).test(text);
  } catch {
    return text.includes(pattern);
  }
}
