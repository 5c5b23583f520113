import { posix } from 'node:path';
import { HrunError } from '../../base/errors.ts';
import type { OciExecFlags } from '../../runtime/oci/ociEngine.ts';
import { openAttachIo } from '../attachTerminal.ts';
import { refuseDescriptors } from './createFlags.ts';
import type { FlagSpec, Flags } from './goFlags.ts';
import type { OciVerb } from './ociVerb.ts';
import { withPrefix } from './withPrefix.ts';

const flags: readonly FlagSpec[] = [
  { name: 'console-socket', kind: 'string', ociOnly: true, description: "socket for the console's master" },
  { name: 'pidfd-socket', kind: 'string', ociOnly: true, description: 'refused: not supported' },
  { name: 'cwd', kind: 'string', ociOnly: true, description: 'current working directory in the container' },
  { name: 'env', aliases: ['e'], kind: 'strings', description: 'set environment variables' },
  { name: 'tty', aliases: ['t'], kind: 'bool', description: 'allocate a pseudo-TTY' },
  { name: 'user', aliases: ['u'], kind: 'string', description: 'UID (format: <uid>[:<gid>])' },
  { name: 'additional-gids', aliases: ['g'], kind: 'strings', ociOnly: true, description: 'additional gids' },
  { name: 'process', aliases: ['p'], kind: 'string', ociOnly: true, description: 'path to the process.json' },
  { name: 'detach', aliases: ['d'], kind: 'bool', description: "detach from the container's process" },
  { name: 'pid-file', kind: 'string', ociOnly: true, description: 'file to write the process id to' },
  {
    name: 'process-label',
    kind: 'string',
    ociOnly: true,
    description: 'ignored: the guest has no such labels',
  },
  { name: 'apparmor', kind: 'string', ociOnly: true, description: 'ignored: the guest has no AppArmor' },
  { name: 'no-new-privs', kind: 'bool', ociOnly: true, description: 'set the no new privileges value' },
  { name: 'cap', aliases: ['c'], kind: 'strings', ociOnly: true, description: 'add a capability' },
  { name: 'preserve-fds', kind: 'string', ociOnly: true, description: 'refused unless 0' },
  { name: 'cgroup', kind: 'strings', ociOnly: true, description: 'ignored: there is one cgroup' },
  { name: 'ignore-paused', kind: 'bool', ociOnly: true, description: 'allow exec in a paused container' },
  { name: 'no-subreaper', kind: 'bool', ociOnly: true, description: 'ignored' },
];

export const exec: OciVerb = {
  name: 'exec',
  summary: 'execute new process inside the container',
  usage: '[command options] <container-id> <command> [command options] || -p process.json <container-id>',
  args: [1, Number.POSITIVE_INFINITY],
  failureCode: 255,
  flags,
  async run({ oci, flags: given, args, caller, signal, context, name }) {
    refuseDescriptors(given);
    const processFile = given.text('process');
    if (processFile === undefined && args.length < 2) {
      throw new HrunError('INVALID_ARGUMENT', 'process args cannot be empty');
    }
    const { session } = context;
    const detach = given.bool('detach');
    const consoleSocket = given.text('console-socket');
    const attached = !detach && consoleSocket === undefined && given.bool('tty');
    const pidFile = given.text('pid-file');
    try {
      return await oci.exec(
        {
          name: name(),
          processFile,
          flags: execFlags(given, args.slice(1)),
          detach,
          pidFile: pidFile === undefined ? undefined : posix.resolve(session.cwd, pidFile),
          stdio: attached
            ? { kind: 'attached', io: openAttachIo(session, { stdin: true, detachKeys: [] }) }
            : { kind: 'standIn', consoleSocket },
          ignorePaused: given.bool('ignore-paused'),
        },
        caller,
        signal,
      );
    } catch (error) {
      throw withPrefix('exec failed: ', error);
    }
  },
};

function execFlags(given: Flags, args: readonly string[]): OciExecFlags {
  const [uid, gid] = userOf(given.text('user'));
  return {
    args,
    env: given.list('env'),
    terminal: given.bool('tty'),
    additionalGids: given.list('additional-gids').map((text) => numberOf(text, 'additional-gids')),
    capabilities: given.list('cap'),
    ...(given.text('cwd') !== undefined && { cwd: given.text('cwd') ?? '' }),
    ...(uid !== undefined && { uid }),
    ...(gid !== undefined && { gid }),
    ...(given.has('no-new-privs') && { noNewPrivileges: given.bool('no-new-privs') }),
  };
}

function userOf(text: string | undefined): [number | undefined, number | undefined] {
  if (text === undefined) return [undefined, undefined];
  const [uid = '', gid] = text.split(':');
  return [numberOf(uid, 'user'), gid === undefined ? undefined : numberOf(gid, 'user')];
}

function numberOf(text: string, flag: string): number {
  if (!/^\d{1,10}$/.test(text))
    throw new HrunError('INVALID_ARGUMENT', `parsing ${text} as int for ${flag} failed`);
  return Number(text);
}
