import { HrunError } from '../../base/errors.ts';
import type { LoadSource } from '../../runtime/engine.ts';
import type { Session } from '../session.ts';

/** What `load` and `import` read from: undefined or `-` for stdin. Disposing closes it. */
export async function openLoadSource(
  path: string | undefined,
  session: Pick<Session, 'files' | 'isTerminal' | 'signal'>,
): Promise<{ readonly source: LoadSource } & AsyncDisposable> {
  if (path === undefined || path === '-') {
    if (session.isTerminal.stdin) {
      throw new HrunError('INVALID_ARGUMENT', 'an archive is expected on stdin, which is a terminal', {
        hint: 'name a file, or redirect one to stdin',
      });
    }
    const bytes = session.files.readStdin(session.signal);
    return { source: { kind: 'stream', name: 'stdin', bytes }, async [Symbol.asyncDispose]() {} };
  }
  const file = await session.files.openRead(path, session.signal);
  const source: LoadSource = file.isDirectory
    ? { kind: 'directory', path }
    : { kind: 'stream', name: path, bytes: file, sizeBytes: file.sizeBytes };
  return { source, [Symbol.asyncDispose]: () => file[Symbol.asyncDispose]() };
}
