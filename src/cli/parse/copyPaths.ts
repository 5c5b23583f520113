import { posix } from 'node:path';
import { HrunError } from '../../base/errors.ts';

/** One side of `hrun cp`. */
export type CopyPath =
  | { readonly kind: 'stream' }
  | { readonly kind: 'local'; readonly path: string }
  | { readonly kind: 'container'; readonly container: string; readonly path: string };

/** Docker's rule: what begins with `/` or `.` is local, so is what has no colon. */
export function parseCopyPath(text: string): CopyPath {
  if (text === '-') return { kind: 'stream' };
  const colon = text.indexOf(':');
  if (colon <= 0 || text.startsWith('/') || text.startsWith('.')) return { kind: 'local', path: text };
  const path = text.slice(colon + 1);
  return { kind: 'container', container: text.slice(0, colon), path: posix.join('/', path) + dotEnd(path) };
}

/** `posix.join` drops the `/.` that means "what is in it". */
function dotEnd(path: string): string {
  return path.endsWith('/.') || path === '.' ? '/.' : '';
}

/** What lies at a path: `undefined` for nothing. */
export type Found = { readonly isDirectory: boolean } | undefined;

/**
 * Where a copy lands, by Docker's rules (docker cp, "SRC_PATH specifies …"): the existing directory to extract in,
 * and the name of what is extracted, `.` for the content of a directory.
 * @throws HrunError INVALID_ARGUMENT
 */
export function copyTarget(
  source: { readonly path: string; readonly isDirectory: boolean },
  destination: { readonly path: string; readonly found: Found },
): { readonly directory: string; readonly name: string } {
  const { path, found } = destination;
  const contentOnly = source.path.endsWith('/.') || source.path === '.';
  if (found?.isDirectory) {
    return { directory: path, name: source.isDirectory && contentOnly ? '.' : posix.basename(source.path) };
  }
  if (found !== undefined && source.isDirectory) {
    throw new HrunError('INVALID_ARGUMENT', `cannot copy the directory ${source.path} to the file ${path}`);
  }
  if (path.endsWith('/') && !source.isDirectory) {
    throw new HrunError('INVALID_ARGUMENT', `the directory ${path} does not exist`);
  }
  return { directory: posix.dirname(path), name: posix.basename(path) };
}
