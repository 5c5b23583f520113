import { Option } from 'commander';
import type { ContainerId } from '../../base/ids.ts';
import type { Ended } from '../../runtime/engine.ts';
import { lacksTerminal, openAttachIo, refuseWithoutTerminal } from '../attachTerminal.ts';
import { openCaller } from '../caller.ts';
import type { Context } from '../deps.ts';
import { defaultDetachKeys, parseDetachKeys } from '../detachKeys.ts';
import { exitCodes } from '../exitCodes.ts';
import { finishAttached, renderTiming, type TimingFormat } from '../finishAttached.ts';
import { checked } from '../flags.ts';
import type { Verb } from '../verb.ts';
import { writeCidfile } from './cidfile.ts';
import { addCreateFlags, type CreateFlags } from './createFlags.ts';
import { createRequest } from './createRequest.ts';

interface RunFlags extends CreateFlags {
  readonly detach?: true;
  readonly detachKeys?: readonly number[];
  readonly sigProxy: boolean;
  readonly timing?: true;
  readonly timingFormat?: TimingFormat;
}

export const run: Verb = {
  configure(command) {
    command.option('-d, --detach', 'Run in the background and print the container id');
    command.option(
      '--detach-keys <keys>',
      'Keys that detach (default: ctrl-p,ctrl-q)',
      checked(parseDetachKeys),
    );
    addCreateFlags(command);
    command.option('--no-sig-proxy', 'Do not pass signals on to the workload');
    command.option('--sig-proxy', 'Pass signals on to the workload', true);
    command.option('--timing', 'Print how long each phase took');
    command.addOption(new Option('--timing-format <format>', 'How to print it').choices(['text', 'json']));
  },

  async run(command, context) {
    const flags = command.opts<RunFlags>();
    const create = await createRequest(flags, command.args, context.session);
    const detach = flags.detach === true;
    if (!detach && lacksTerminal(context.session, create)) return refuseWithoutTerminal(context);
    const containerCreated = (id: ContainerId, signal: AbortSignal) =>
      writeCidfile(flags.cidfile, id, context.session.files, signal);
    using caller = openCaller(context, { quiet: flags.quiet === true, containerCreated });
    const detachKeys = create.terminal ? (flags.detachKeys ?? defaultDetachKeys) : [];
    const io = openAttachIo(context.session, { stdin: create.openStdin && !detach, detachKeys });
    const engine = await context.deps.engine();
    const timing = flags.timing === true || flags.timingFormat !== undefined;
    const request = { create, detach, signalProxy: flags.sigProxy, timing };
    const ended = await engine.containers.run(request, caller, io, context.signal);
    if (!detach) return finishAttached(ended, io, context, flags.timingFormat);
    return answerDetached(ended, context, flags.timingFormat);
  },
};

async function answerDetached(
  { containerId, timing }: Ended,
  context: Context,
  format: TimingFormat | undefined,
): Promise<number> {
  await context.print(`${containerId}\n`);
  if (timing !== undefined) await context.complain(renderTiming(timing, format));
  return exitCodes.ok;
}
