import { constants } from 'node:fs';
import { posix } from 'node:path';
import { errnoOf, HrunError, isHrunError } from '../../base/errors.ts';
import { formatSize } from '../../base/units.ts';
import type { Caller, ContainerEngine } from '../../runtime/engine.ts';
import { openCaller } from '../caller.ts';
import type { Context } from '../deps.ts';
import { exitCodes } from '../exitCodes.ts';
import { type CopyPath, copyTarget, type Found, parseCopyPath } from '../parse/copyPaths.ts';
import type { Verb } from '../verb.ts';

interface CpFlags {
  readonly archive?: true;
  readonly followLink?: true;
  readonly quiet?: true;
}

type InContainer = CopyPath & { readonly kind: 'container' };
type OnHost = Exclude<CopyPath, InContainer>;

interface Copy {
  readonly containers: ContainerEngine;
  readonly caller: Caller;
  readonly followLink: boolean;
  readonly archive: boolean;
  readonly context: Context;
}

export const cp: Verb = {
  configure(command) {
    command.option('-a, --archive', 'Keep the owners of what is copied');
    command.option('-L, --follow-link', 'Copy what a link in SRC_PATH leads to');
    command.option('-q, --quiet', 'Do not say what was copied');
  },

  async run(command, context) {
    const { archive = false, followLink = false, quiet = false } = command.opts<CpFlags>();
    const [from = '', to = ''] = command.args;
    const [source, target] = [parseCopyPath(from), parseCopyPath(to)];
    using caller = openCaller(context);
    const { containers } = await context.deps.engine();
    const copy: Copy = { containers, caller, followLink, archive, context };
    let bytes: number;
    if (source.kind === 'container' && target.kind !== 'container')
      bytes = await copyOut(source, target, copy);
    else if (source.kind !== 'container' && target.kind === 'container')
      bytes = await copyIn(source, target, copy);
    else {
      const what = source.kind === 'container' ? 'two containers' : 'two places of this machine';
      throw new HrunError('INVALID_ARGUMENT', `cannot copy between ${what}`, {
        hint: 'name a path in a container as CONTAINER:PATH',
      });
    }
    if (!quiet && target.kind !== 'stream' && context.session.isTerminal.stderr) {
      await context.complain(`Copied ${formatSize(bytes, 3)} to ${to}\n`);
    }
    return exitCodes.ok;
  },
};

async function copyOut(source: InContainer, target: OnHost, copy: Copy): Promise<number> {
  const { containers, caller, followLink, archive, context } = copy;
  const { container, path } = source;
  const request = { container, path, followLink, archive };
  if (target.kind === 'stream') {
    if (context.session.isTerminal.stdout) {
      throw new HrunError('INVALID_ARGUMENT', 'refusing to write an archive to a terminal');
    }
    const { stdout } = context.session;
    const stream = {
      kind: 'stream',
      write: (bytes: Uint8Array, signal: AbortSignal) => stdout.write(bytes, signal),
    } as const;
    return (await containers.copyOut({ ...request, target: stream }, caller, context.signal)).bytes;
  }
  const { mode } = await containers.statPath(container, path, followLink, caller, context.signal);
  const found = await localFound(target.path, copy);
  const landing = copyTarget({ path, isDirectory: isDirectory(mode) }, { path: target.path, found });
  await requireLocalDirectory(landing.directory, copy);
  const directory = { kind: 'directory', ...landing } as const;
  return (await containers.copyOut({ ...request, target: directory }, caller, context.signal)).bytes;
}

async function copyIn(source: OnHost, target: InContainer, copy: Copy): Promise<number> {
  const { containers, caller, followLink, archive, context } = copy;
  const { container } = target;
  const found = await containerFound(target, copy);
  if (source.kind === 'stream') {
    if (!found?.isDirectory) {
      throw new HrunError('INVALID_ARGUMENT', `${target.path} in ${container} is not an existing directory`);
    }
    const stream = { kind: 'stream', bytes: caller.files.readStdin(context.signal) } as const;
    const request = { container, directory: target.path, archive, source: stream };
    return (await containers.copyIn(request, caller, context.signal)).bytes;
  }
  const { path } = source;
  const { mode, realPath } = await caller.files.stat(path, { followLink }, context.signal);
  // `.` and `..` have no name of their own.
  const named = /(^|\/)\.\.$/.test(path) ? realPath : path;
  const landing = copyTarget({ path: named, isDirectory: isDirectory(mode) }, { path: target.path, found });
  const request = {
    container,
    directory: landing.directory,
    archive,
    source: { kind: 'path', path, followLink, name: landing.name } as const,
  };
  return (await containers.copyIn(request, caller, context.signal)).bytes;
}

async function localFound(path: string, { caller, context }: Copy): Promise<Found> {
  try {
    const { mode } = await caller.files.stat(path, { followLink: true }, context.signal);
    return { isDirectory: isDirectory(mode) };
  } catch (error) {
    if (isHrunError(error, 'HAND_FAILED') && errnoOf(error.cause) === 'ENOENT') return undefined;
    throw error;
  }
}

async function requireLocalDirectory(path: string, copy: Copy): Promise<void> {
  const found = await localFound(path, copy);
  if (!found?.isDirectory) {
    throw new HrunError('INVALID_ARGUMENT', `the directory ${path} does not exist`);
  }
}

async function containerFound(
  { container, path }: InContainer,
  { containers, caller, context }: Copy,
): Promise<Found> {
  // An unknown container is NOT_FOUND, too: it must not be taken for an unknown path.
  await containers.inspect(container, context.signal);
  try {
    const { mode } = await containers.statPath(
      container,
      posix.normalize(path),
      true,
      caller,
      context.signal,
    );
    return { isDirectory: isDirectory(mode) };
  } catch (error) {
    if (isHrunError(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
}

function isDirectory(mode: number): boolean {
  return (mode & constants.S_IFMT) === constants.S_IFDIR;
}
