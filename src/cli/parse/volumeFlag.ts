import { posix } from 'node:path';
import { HrunError } from '../../base/errors.ts';
import type { BindMount, VolumeMount } from '../../runtime/runRequest.ts';
import { parseVolumeName } from '../../runtime/volumes/volumeDefinition.ts';
import { checkPropagation, destinationOf } from './mounts.ts';

export type Volume =
  | { readonly type: 'bind'; readonly bind: BindMount }
  | { readonly type: 'volume'; readonly volume: VolumeMount }
  | { readonly type: 'anonymous'; readonly destination: string };

/** What Docker accepts on Linux although it changes nothing there. */
const withoutEffect: readonly string[] = ['rw', 'z', 'Z', 'cached', 'delegated', 'consistent'];
const restrictions: readonly string[] = ['nosuid', 'noexec', 'nodev'];
const propagations = /^r?(shared|slave|private)$/;

/**
 * `-v HOST:CONTAINER[:OPTIONS]`, `-v NAME:CONTAINER[:OPTIONS]` or `-v CONTAINER`. A host path begins with `/`, or with `.`
 * when it is relative to `cwd`.
 * @throws HrunError INVALID_ARGUMENT
 */
export function parseVolume(text: string, cwd: string): Volume {
  const parts = text.split(':');
  const [first = '', second, optionText] = parts;
  if (parts.length > 3 || parts.some((part) => part === '')) throw invalid(text, 'it is malformed');
  const what = `--volume ${text}`;
  if (second === undefined) return { type: 'anonymous', destination: destinationOf(first, what) };
  const destination = destinationOf(second, what);
  const { nocopy, ...options } = parseOptions(optionText?.split(',') ?? [], text);
  if (first.startsWith('/') || first.startsWith('.')) {
    if (nocopy) throw invalid(text, 'nocopy is for named volumes');
    return {
      type: 'bind',
      bind: { source: posix.resolve(cwd, first), destination, create: true, ...options },
    };
  }
  return {
    type: 'volume',
    volume: { name: parseVolumeName(first), destination, labels: {}, nocopy, ...options },
  };
}

function parseOptions(
  given: readonly string[],
  text: string,
): { readonly readonly: boolean; readonly nocopy: boolean; readonly options: readonly string[] } {
  for (const option of given) {
    if (propagations.test(option)) checkPropagation(option, `--volume ${text}`);
    else if (!['ro', 'nocopy', ...restrictions, ...withoutEffect].includes(option)) {
      throw invalid(text, `unknown option "${option}"`);
    }
  }
  if (given.includes('ro') && given.includes('rw')) throw invalid(text, '"ro" and "rw" exclude each other');
  return {
    readonly: given.includes('ro'),
    nocopy: given.includes('nocopy'),
    options: restrictions.filter((option) => given.includes(option)),
  };
}

function invalid(text: string, why: string): HrunError {
  return new HrunError('INVALID_ARGUMENT', `--volume ${text}: ${why}`, {
    hint: 'write HOST_PATH:CONTAINER_PATH[:ro] or NAME:CONTAINER_PATH[:ro]',
  });
}
