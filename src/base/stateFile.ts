import { crc32 } from 'node:zlib';
import { writeFileAtomically } from './atomicFile.ts';

const beginning = /^\{"crc32":"([0-9a-f]{8})",/;

/**
 * Replaces the state file `path`, whole: JSON whose first member is the CRC-32 of the rest, so that a disk that returns
 * other bytes than were written is noticed. A digit that has changed would still be JSON, and a wrong answer.
 * @param record an object with at least one member
 * @param replacer as of JSON.stringify
 */
export async function writeStateFile(
  path: string,
  record: object,
  options: { readonly durable?: boolean; readonly replacer?: (key: string, value: unknown) => unknown } = {},
): Promise<void> {
  const { replacer, ...how } = options;
  await writeFileAtomically(path, stateText(JSON.stringify(record, replacer)), how);
}

/** What a state file holds of `json`, an object. */
export function stateText(json: string): string {
  const rest = json.slice(1);
  return `{"crc32":"${checkOf(rest)}",${rest}`;
}

/**
 * The object in a state file. One of before there was a check has none.
 * @throws SyntaxError when it is not what was written
 */
export function parseStateText(text: string): unknown {
  const [start = '{', check] = beginning.exec(text) ?? [];
  const rest = text.slice(start.length);
  if (check !== undefined && check !== checkOf(rest)) {
    throw new SyntaxError('it is damaged: its check does not fit its content');
  }
  return JSON.parse(check === undefined ? text : `{${rest}`);
}

function checkOf(text: string): string {
  return crc32(text).toString(16).padStart(8, '0');
}
