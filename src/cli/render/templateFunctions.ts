import { HrunError } from '../../base/errors.ts';
import { lineJson } from './json.ts';

/** What a value of a template can be: data as JSON has it, maps, and methods of a row. */
export type TemplateFunction = (...args: readonly unknown[]) => unknown;

/** The functions of Go's text/template and those that Docker adds. */
export const templateFunctions: ReadonlyMap<string, TemplateFunction> = new Map<string, TemplateFunction>([
  ['json', (value) => lineJson(value)],
  ['upper', (text) => asString(text, 'upper').toUpperCase()],
  ['lower', (text) => asString(text, 'lower').toLowerCase()],
  ['title', (text) => asString(text, 'title').replaceAll(/(?<![\p{L}\p{N}])\p{L}/gu, (c) => c.toUpperCase())],
  ['join', (list, separator) => asList(list, 'join').map(formatValue).join(asString(separator, 'join'))],
  ['split', (text, separator) => asString(text, 'split').split(asString(separator, 'split'))],
  ['truncate', (text, length) => asString(text, 'truncate').slice(0, asNumber(length, 'truncate'))],
  ['pad', pad],
  ['print', (...values) => values.map(formatValue).join('')],
  ['println', (...values) => `${values.map(formatValue).join(' ')}\n`],
  ['printf', printf],
  ['len', length],
  ['index', (value, ...keys) => keys.reduce<unknown>(indexOnce, value)],
  ['slice', slice],
  ['not', (value) => !isTrue(value)],
  ['and', (...values) => values.find((value) => !isTrue(value)) ?? values.at(-1)],
  ['or', (...values) => values.find(isTrue) ?? values.at(-1)],
  ['eq', (first, ...others) => others.some((other) => equal(first, other))],
  ['ne', (first, second) => !equal(first, second)],
  ['lt', (a, b) => compare(a, b) < 0],
  ['le', (a, b) => compare(a, b) <= 0],
  ['gt', (a, b) => compare(a, b) > 0],
  ['ge', (a, b) => compare(a, b) >= 0],
]);

/** As Go's fmt prints with %v. */
export function formatValue(value: unknown): string {
  if (value === undefined || value === null) return '<no value>';
  if (Array.isArray(value)) return `[${value.map(formatValue).join(' ')}]`;
  const entries = entriesOf(value);
  if (entries === undefined) return String(value);
  return `map[${entries.map(([key, item]) => `${key}:${formatValue(item)}`).join(' ')}]`;
}

/** Go's rule: false, 0, nil and what is empty are not true. */
export function isTrue(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (value instanceof Map) return value.size > 0;
  return Boolean(value);
}

/** Key and value of a map or object, maps in the order of their keys; undefined for anything else. */
export function entriesOf(value: unknown): [string, unknown][] | undefined {
  if (value instanceof Map) {
    return [...value]
      .map(([key, item]): [string, unknown] => [String(key), item])
      .sort(([a], [b]) => (a < b ? -1 : 1));
  }
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.entries(value)
    : undefined;
}

export function executionError(reason: string): HrunError {
  return new HrunError('INVALID_ARGUMENT', `template: ${reason}`);
}

function asString(value: unknown, name: string): string {
  if (typeof value !== 'string') throw executionError(`${name}: expected a string, not ${describe(value)}`);
  return value;
}

function asNumber(value: unknown, name: string): number {
  if (typeof value !== 'number') throw executionError(`${name}: expected a number, not ${describe(value)}`);
  return value;
}

function asList(value: unknown, name: string): readonly unknown[] {
  if (!Array.isArray(value)) throw executionError(`${name}: expected a list, not ${describe(value)}`);
  return value;
}

export function describe(value: unknown): string {
  if (value === null || value === undefined) return 'nil';
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'a map' : `the ${typeof value} ${formatValue(value)}`;
}

function length(value: unknown): number {
  if (typeof value === 'string') return Buffer.byteLength(value);
  if (Array.isArray(value)) return value.length;
  const entries = entriesOf(value);
  if (entries === undefined) throw executionError(`len of ${describe(value)}`);
  return entries.length;
}

function indexOnce(value: unknown, key: unknown): unknown {
  if (Array.isArray(value)) {
    const at = asNumber(key, 'index');
    if (at < 0 || at >= value.length) throw executionError(`index out of range: ${at}`);
    return value[at];
  }
  const entries = entriesOf(value);
  if (entries === undefined) throw executionError(`index of ${describe(value)}`);
  const found = entries.find(([name]) => name === formatValue(key));
  // Go answers the zero value; of the maps that are shown here that is the empty string.
  return found === undefined ? '' : found[1];
}

function slice(value: unknown, from: unknown = 0, to: unknown = undefined): unknown {
  const [start, end] = [asNumber(from, 'slice'), to === undefined ? undefined : asNumber(to, 'slice')];
  if (typeof value === 'string') return value.slice(start, end);
  return asList(value, 'slice').slice(start, end);
}

function pad(text: unknown, before: unknown, after: unknown): string {
  const padded = asString(text, 'pad');
  return padded === ''
    ? ''
    : ' '.repeat(asNumber(before, 'pad')) + padded + ' '.repeat(asNumber(after, 'pad'));
}

function printf(format: unknown, ...values: readonly unknown[]): string {
  let next = 0;
  return asString(format, 'printf').replaceAll(
    /%(-?)(\d*)(?:\.(\d+))?([a-zA-Z%])/g,
    (_all, left, width, digits, verb) => {
      if (verb === '%') return '%';
      const text = formatVerb(verb, values[next++], digits);
      return left === '-' ? text.padEnd(Number(width)) : text.padStart(Number(width));
    },
  );
}

function formatVerb(verb: string, value: unknown, digits: string | undefined): string {
  if (verb === 'q') return JSON.stringify(formatValue(value));
  if (verb === 'x' && typeof value === 'number') return value.toString(16);
  if (verb === 'f' && typeof value === 'number') return value.toFixed(Number(digits ?? 6));
  if (verb === 's' && digits !== undefined) return formatValue(value).slice(0, Number(digits));
  return formatValue(value);
}

function equal(a: unknown, b: unknown): boolean {
  if (typeof a !== typeof b && a !== null && b !== null) {
    throw executionError(`incompatible types for comparison: ${describe(a)} and ${describe(b)}`);
  }
  return a === b;
}

function compare(a: unknown, b: unknown): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  const [left, right] = [asString(a, 'compare'), asString(b, 'compare')];
  return left < right ? -1 : Number(left > right);
}
