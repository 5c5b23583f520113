import { posix } from 'node:path';
import { HrunError } from '../../base/errors.ts';
import type { TmpfsMount } from '../../runtime/runRequest.ts';

/** `--tmpfs /path[:size=64m,mode=1777]`. @throws HrunError INVALID_ARGUMENT */
export function parseTmpfs(text: string): TmpfsMount {
  const colon = text.indexOf(':');
  const destination = destinationOf(colon < 0 ? text : text.slice(0, colon), `--tmpfs ${text}`);
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

/** A path in the container, absolute and without `..`, `what` in front of it in errors. @throws HrunError INVALID_ARGUMENT */
export function destinationOf(path: string, what: string): string {
  const destination = posix.normalize(path).replace(/(?<=.)\/$/, '');
  if (!path.startsWith('/') || destination === '/') {
    const why = destination === '/' ? "it can't be /" : 'it must be absolute';
    throw new HrunError('INVALID_ARGUMENT', `${what}: invalid container path "${path}": ${why}`);
  }
  return destination;
}

/** @throws HrunError INVALID_ARGUMENT for one that would have to cross the wall of the microVM */
export function checkPropagation(propagation: string, what: string): void {
  if (propagation === 'private' || propagation === 'rprivate') return;
  throw new HrunError('INVALID_ARGUMENT', `${what}: the propagation "${propagation}" is not supported`, {
    hint: 'mounts do not cross the wall of a microVM: only private and rprivate',
  });
}
