import { type Command, Option } from 'commander';
import { HrunError } from '../../base/errors.ts';
import { checked } from '../flags.ts';

/** What `--filter` was given, by key; values of one key are alternatives, keys must all hold. */
export type Filters = ReadonlyMap<string, readonly string[]>;

/** Adds `--filter`, whose values `parseFilters` takes. One without a value is a wrong option, as Docker has it. */
export function addFilters(command: Command, known: readonly string[]): void {
  const check = checked((text: string) => {
    if (text.includes('=')) return text;
    throw new HrunError('INVALID_ARGUMENT', `"${text}" is not of the form NAME=VALUE`);
  });
  const option = new Option('-f, --filter <filter>', `Show those with NAME=VALUE (${known.join(', ')})`);
  option.default([], 'none');
  command.addOption(option.argParser((text: string, list: readonly string[]) => [...list, check(text)]));
}

/**
 * @param texts each with a `=`
 * @throws HrunError INVALID_ARGUMENT for an unknown key
 */
export function parseFilters(texts: readonly string[], known: readonly string[]): Filters {
  const filters = new Map<string, string[]>();
  for (const text of texts) {
    const equals = text.indexOf('=');
    const key = text.slice(0, equals).trim().toLowerCase();
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
