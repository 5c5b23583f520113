import { posix } from 'node:path';
import { HrunError } from '../../base/errors.ts';
import type { OciCreateRequest } from '../../runtime/oci/ociEngine.ts';
import type { FlagSpec, Flags } from './goFlags.ts';
import type { OciCall } from './ociVerb.ts';

/** Of `create` and `run`. */
export const createFlags: readonly FlagSpec[] = [
  {
    name: 'bundle',
    aliases: ['b'],
    kind: 'string',
    ociOnly: true,
    description: 'path to the root of the bundle directory, defaults to the current directory',
  },
  {
    name: 'console-socket',
    kind: 'string',
    ociOnly: true,
    description: "path to an AF_UNIX socket which will receive the console's master",
  },
  { name: 'pidfd-socket', kind: 'string', ociOnly: true, description: 'refused: not supported' },
  { name: 'pid-file', kind: 'string', ociOnly: true, description: 'file to write the process id to' },
  { name: 'no-pivot', kind: 'bool', ociOnly: true, description: 'ignored: the guest has no such case' },
  {
    name: 'no-new-keyring',
    kind: 'bool',
    ociOnly: true,
    description: 'do not create a new session keyring for the container',
  },
  {
    name: 'preserve-fds',
    kind: 'string',
    ociOnly: true,
    description: 'refused unless 0: no descriptor crosses the border of a microVM',
  },
];

/** @throws HrunError INVALID_ARGUMENT for what a microVM cannot do */
export function refuseDescriptors(flags: Flags): void {
  if ((flags.integer('preserve-fds') ?? 0) > 0) {
    throw new HrunError('INVALID_ARGUMENT', 'a microVM cannot be given descriptors (--preserve-fds)', {
      hint: 'use sockets or files below a bind mount of a directory instead',
    });
  }
  if (flags.has('pidfd-socket')) {
    throw new HrunError('INVALID_ARGUMENT', '--pidfd-socket is not supported', { hint: 'use --pid-file' });
  }
}

/** What `create` and `run` ask for in common. Paths are the caller's. */
export function createRequest(
  { flags, name, context }: OciCall,
  stdio: OciCreateRequest['stdio'],
  foreground: boolean,
): OciCreateRequest {
  refuseDescriptors(flags);
  const pidFile = flags.text('pid-file');
  return {
    name: name(),
    bundle: flags.text('bundle') ?? context.session.cwd,
    // runc changes to the bundle first, and has made the path absolute before that
    pidFile: pidFile === undefined ? undefined : posix.resolve(context.session.cwd, pidFile),
    stdio,
    foreground,
    noNewKeyring: flags.bool('no-new-keyring'),
  };
}
