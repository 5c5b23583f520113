import { posix } from 'node:path';
import { HrunError } from '../../base/errors.ts';
import type { BindMount, TmpfsMount } from '../../runtime/runRequest.ts';

export type Volume = BindMount | { readonly anonymous: string };

/** What Docker accepts on Linux although it changes nothing there. */
const withoutEffect: readonly string[] = ['rw', 'z', 'Z', 'cached', 'delegated', 'consistent'];

/**
 * `-v HOST:CONTAINER[:ro]` or `-v CONTAINER`. A host path begins with `/`, or with `.` when it is relative to `cwd`.
 * @throws HrunError INVALID_ARGUMENT
 */
export function parseVolume(text: string, cwd: string): Volume {
  const parts = text.split(':');
  const [first = '', second, options] = parts;
  if (parts.length > 3 || parts.some((part) => part === '')) throw invalidVolume(text, 'it is malformed');
  if (second === undefined) return { anonymous: destinationOf(first, text) };
  if (!first.startsWith('/') && !first.startsWith('.')) {
    throw invalidVolume(text, `named volumes are not supported`, `write ./${first} for a directory`);
  }
  const readonly = volumeOptions(options, text);
  return { source: posix.resolve(cwd, first), destination: destinationOf(second, text), readonly };
}

/** `--tmpfs /path[:size=64m,mode=1777]`. @throws HrunError INVALID_ARGUMENT */
export function parseTmpfs(text: string): TmpfsMount {
  const colon = text.indexOf(':');
  const destination = destinationOf(colon < 0 ? text : text.slice(0, colon), text, '--tmpfs');
  const options = colon < 0 ? [] : text.slice(colon + 1).split(',');
  for (const option of options) {
    if (!/^[a-z][a-z0-9_]*(=[A-Za-z0-9:%._/-]+)?$/.test(option)) {
      throw new HrunError('INVALID_ARGUMENT', `--tmpfs ${text}: invalid option "${option}"`);
    }
  }
  return { destination, options };
}

/** @throws HrunError INVALID_ARGUMENT when two mounts have the same place */
export function refuseDuplicates(destinations: readonly string[]): void {
  const seen = new Set<string>();
  for (const destination of destinations) {
    if (seen.has(destination)) {
      throw new HrunError('INVALID_ARGUMENT', `duplicate mount point: ${destination}`);
    }
    seen.add(destination);
  }
}

function volumeOptions(options: string | undefined, text: string): boolean {
  let readonly = false;
  for (const option of options?.split(',') ?? []) {
    if (option === 'ro') readonly = true;
    else if (!withoutEffect.includes(option)) throw invalidVolume(text, `unknown option "${option}"`);
  }
  return readonly;
}

function destinationOf(path: string, text: string, flag = '--volume'): string {
  const destination = posix.normalize(path).replace(/(?<=.)\/$/, '');
  if (!path.startsWith('/') || destination === '/') {
    const why = destination === '/' ? "it can't be /" : 'it must be absolute';
    throw new HrunError('INVALID_ARGUMENT', `${flag} ${text}: invalid container path "${path}": ${why}`);
  }
  return destination;
}

function invalidVolume(text: string, why: string, hint = 'write HOST:CONTAINER[:ro]'): HrunError {
  return new HrunError('INVALID_ARGUMENT', `--volume ${text}: ${why}`, { hint });
}
