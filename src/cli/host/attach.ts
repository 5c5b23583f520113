import { lacksTerminal, openAttachIo, refuseWithoutTerminal } from '../attachTerminal.ts';
import { defaultDetachKeys, parseDetachKeys } from '../detachKeys.ts';
import { finishAttached } from '../finishAttached.ts';
import { checked } from '../flags.ts';
import type { Verb } from '../verb.ts';

interface AttachFlags {
  readonly detachKeys?: readonly number[];
  readonly sigProxy: boolean;
  readonly stdin: boolean;
}

export const attach: Verb = {
  configure(command) {
    command.option(
      '--detach-keys <keys>',
      'Keys that detach (default: ctrl-p,ctrl-q)',
      checked(parseDetachKeys),
    );
    command.option('--no-sig-proxy', 'Do not pass signals on to the workload');
    command.option('--sig-proxy', 'Pass signals on to the workload', true);
    command.option('--no-stdin', 'Do not attach stdin');
  },

  async run(command, context) {
    const flags = command.opts<AttachFlags>();
    const [container = ''] = command.args;
    const engine = await context.deps.engine();
    const { record } = await engine.containers.inspect(container, context.signal);
    const { terminal, openStdin } = record.config;
    const stdin = flags.stdin && openStdin;
    if (lacksTerminal(context.session, { openStdin: stdin, terminal })) return refuseWithoutTerminal(context);
    const detachKeys = terminal ? (flags.detachKeys ?? defaultDetachKeys) : [];
    const io = openAttachIo(context.session, { stdin, detachKeys });
    const options = { stdin, signalProxy: flags.sigProxy && !terminal };
    const ended = await engine.containers.attach(container, options, io, context.signal);
    return finishAttached(ended, io, context);
  },
};
