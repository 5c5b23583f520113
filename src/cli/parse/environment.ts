import { HrunError } from '../../base/errors.ts';
import type { EnvironmentVariable } from '../../runtime/runRequest.ts';

/**
 * `-e NAME=value`, or `-e NAME` for the caller's own value; a name that the caller has not set removes the image's.
 * @throws HrunError INVALID_ARGUMENT without a name
 */
export function parseVariable(text: string, caller: ReadonlyMap<string, string>): EnvironmentVariable {
  const equals = text.indexOf('=');
  const name = equals < 0 ? text : text.slice(0, equals);
  if (name === '') throw new HrunError('INVALID_ARGUMENT', `invalid environment variable: "${text}"`);
  return { name, value: equals < 0 ? caller.get(name) : text.slice(equals + 1) };
}

/**
 * Docker's env-file: a variable per line, `#` begins a comment line, values are taken as they are. A name alone stands
 * for the caller's own value and is left out when the caller has none.
 * @throws HrunError INVALID_ARGUMENT naming the file and line
 */
export function parseEnvFile(
  content: Buffer,
  path: string,
  caller: ReadonlyMap<string, string>,
): EnvironmentVariable[] {
  return fileLines(content, path).flatMap(({ line, at }) => {
    const variable = parseVariable(line, caller);
    if (/\s/.test(variable.name)) {
      throw new HrunError('INVALID_ARGUMENT', `${at}: the variable "${variable.name}" contains white space`);
    }
    return line.includes('=') || variable.value !== undefined ? [variable] : [];
  });
}

/** `KEY=value` or `KEY`. @throws HrunError INVALID_ARGUMENT without a key */
export function parseLabel(text: string): readonly [key: string, value: string] {
  const equals = text.indexOf('=');
  const key = (equals < 0 ? text : text.slice(0, equals)).trim();
  if (key === '') throw new HrunError('INVALID_ARGUMENT', `invalid label: "${text}"`);
  return [key, equals < 0 ? '' : text.slice(equals + 1)];
}

/** A label per line, comments as in an env-file. */
export function parseLabelFile(content: Buffer, path: string): (readonly [key: string, value: string])[] {
  return fileLines(content, path).map(({ line }) => parseLabel(line));
}

function fileLines(content: Buffer, path: string): { line: string; at: string }[] {
  const text = content.toString('utf8');
  if (!Buffer.from(text).equals(content)) {
    throw new HrunError('INVALID_ARGUMENT', `${path} is not valid UTF-8`);
  }
  return text
    .replace(/^\ufeff/, '')
    .split(/\r?\n/)
    .map((line, index) => ({ line: line.trimStart(), at: `${path}, line ${index + 1}` }))
    .filter(({ line }) => line !== '' && !line.startsWith('#'));
}
