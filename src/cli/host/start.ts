import { HrunError } from '../../base/errors.ts';
import { openAttachIo } from '../attachTerminal.ts';
import { openCaller } from '../caller.ts';
import type { Context } from '../deps.ts';
import { defaultDetachKeys, parseDetachKeys } from '../detachKeys.ts';
import { exitCodeOf } from '../exitCodes.ts';
import { finishAttached } from '../finishAttached.ts';
import { checked } from '../flags.ts';
import { describeError } from '../printError.ts';
import { forEachTarget } from '../targets.ts';
import type { Verb } from '../verb.ts';

interface StartFlags {
  readonly attach?: true;
  readonly detachKeys?: readonly number[];
  readonly interactive?: true;
  readonly sigProxy: boolean;
}

export const start: Verb = {
  configure(command) {
    command.option(
      '-a, --attach',
      'Attach stdout and stderr, pass signals on, and exit as the workload does',
    );
    command.option(
      '--detach-keys <keys>',
      'Keys that detach (default: ctrl-p,ctrl-q)',
      checked(parseDetachKeys),
    );
    command.option('-i, --interactive', 'Attach stdin, too');
    command.option('--no-sig-proxy', 'Do not pass signals on to the workload');
    command.option('--sig-proxy', 'Pass signals on to the workload', true);
  },

  async run(command, context) {
    const flags = command.opts<StartFlags>();
    const [container = '', ...others] = command.args;
    if (flags.attach || flags.interactive) {
      if (others.length > 0) {
        throw new HrunError('INVALID_ARGUMENT', 'only one container can be started and attached at once');
      }
      return startAttached(container, flags, context);
    }
    using caller = openCaller(context);
    const engine = await context.deps.engine();
    return forEachTarget(command.args, context, async (target) => {
      await engine.containers.start(target, caller, context.signal);
      return target;
    });
  },
};

/** Here, unlike in the rest of `start`, the exit code is the workload's. */
async function startAttached(container: string, flags: StartFlags, context: Context): Promise<number> {
  const { signal } = context;
  try {
    using caller = openCaller(context);
    const engine = await context.deps.engine();
    const { record } = await engine.containers.inspect(container, signal);
    const detachKeys = record.config.terminal ? (flags.detachKeys ?? defaultDetachKeys) : [];
    const stdin = flags.interactive === true && record.config.openStdin;
    const io = openAttachIo(context.session, { stdin, detachKeys });
    const options = { stdin, signalProxy: flags.sigProxy };
    const ended = await engine.containers.startAttached(container, options, caller, io, signal);
    return await finishAttached(ended, io, context);
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof HrunError)) throw error;
    await context.complain(describeError(error));
    return exitCodeOf(error, true);
  }
}
