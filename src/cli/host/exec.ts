import { HrunError, isHrunError } from '../../base/errors.ts';
import type { ExecRequest } from '../../runtime/runRequest.ts';
import { lacksTerminal, openAttachIo, refuseWithoutTerminal } from '../attachTerminal.ts';
import { defaultDetachKeys, parseDetachKeys } from '../detachKeys.ts';
import { exitCodes } from '../exitCodes.ts';
import { finishAttached } from '../finishAttached.ts';
import { addList, checked } from '../flags.ts';
import { parseEnvFile, parseVariable } from '../parse/environment.ts';
import { describeError } from '../printError.ts';
import type { Session } from '../session.ts';
import type { Verb } from '../verb.ts';

interface ExecFlags {
  readonly detach?: true;
  readonly detachKeys?: readonly number[];
  readonly env: readonly string[];
  readonly envFile: readonly string[];
  readonly interactive?: true;
  readonly privileged?: true;
  readonly tty?: true;
  readonly user?: string;
  readonly workdir?: string;
}

const maxFileBytes = 1024 * 1024;

export const exec: Verb = {
  configure(command) {
    command.option('-d, --detach', 'Run in the background');
    command.option(
      '--detach-keys <keys>',
      'Keys that detach (default: ctrl-p,ctrl-q)',
      checked(parseDetachKeys),
    );
    addList(
      command,
      '-e, --env <variable>',
      'Set an environment variable: NAME=value, or NAME for the own value',
    );
    addList(command, '--env-file <path>', 'Read environment variables from a file');
    command.option('-i, --interactive', 'Keep stdin open');
    command.option('--privileged', 'Give the command every capability');
    command.option('-t, --tty', 'Give the command a terminal');
    command.option('-u, --user <user>', 'User (and group) to run as: NAME|UID[:GROUP|GID]');
    command.option('-w, --workdir <path>', 'Working directory inside the container');
  },

  async run(command, context) {
    const flags = command.opts<ExecFlags>();
    const request = await execRequest(flags, command.args, context.session);
    if (!request.detach && lacksTerminal(context.session, request)) return refuseWithoutTerminal(context);
    const detachKeys = request.terminal ? (flags.detachKeys ?? defaultDetachKeys) : [];
    const io = openAttachIo(context.session, { stdin: request.openStdin, detachKeys });
    const engine = await context.deps.engine();
    // What names no container is no refusal of one.
    await engine.containers.inspect(request.container, context.signal);
    try {
      checkWorkdir(request);
      const ended = await engine.containers.exec(request, io, context.signal);
      return await finishAttached(ended, io, context);
    } catch (error) {
      // A user or a directory that cannot be: Docker counts it among what cannot be executed.
      const refused = isHrunError(error, 'AGENT_REFUSED') || isHrunError(error, 'INVALID_ARGUMENT');
      if (!refused || context.signal.aborted) throw error;
      await context.complain(describeError(error));
      return exitCodes.notExecutable;
    }
  },
};

function checkWorkdir({ workingDir }: ExecRequest): void {
  if (workingDir === undefined || workingDir.startsWith('/')) return;
  throw new HrunError('INVALID_ARGUMENT', `the working directory "${workingDir}" must be absolute`);
}

/** Options and arguments of `exec` as a request. @throws HrunError INVALID_ARGUMENT or HAND_FAILED */
export async function execRequest(
  flags: ExecFlags,
  [container = '', ...command]: readonly string[],
  session: Pick<Session, 'environment' | 'files' | 'signal'>,
): Promise<ExecRequest> {
  const detach = flags.detach === true;
  const environment = flags.env.map((text) => parseVariable(text, session.environment));
  for (const path of flags.envFile.toReversed()) {
    const content = await session.files.readFile(path, maxFileBytes, session.signal);
    environment.unshift(...parseEnvFile(content, path, session.environment));
  }
  return {
    container,
    command,
    openStdin: flags.interactive === true && !detach,
    terminal: flags.tty === true,
    detach,
    environment,
    privileged: flags.privileged === true,
    ...(flags.user !== undefined && { user: flags.user }),
    ...(flags.workdir !== undefined && { workingDir: flags.workdir }),
  };
}
