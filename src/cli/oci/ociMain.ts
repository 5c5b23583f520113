import { HrunError, isHrunError, messageOf } from '../../base/errors.ts';
import { printable } from '../../base/text.ts';
import type { Context } from '../deps.ts';
import { globalFlags } from './globalFlags.ts';
import { type Flags, parseGoFlags, UsageError, usageError } from './goFlags.ts';
import { ociHelp, ociVerbHelp, ociVersionText } from './ociHelp.ts';
import { logError, type OciLog } from './ociLog.ts';
import type { GivenCommand, OciCall, OciVerb } from './ociVerb.ts';
import { handOver, otherRuntimeFor } from './otherRuntime.ts';
import { scopeOf } from './scope.ts';
import { findOciVerb } from './verbs.ts';

const failed = 1;
/** What the parser of runc answers for a command that it does not know. */
const unknownCommand = 3;
const maxMessageLength = 8000;

/** Runs one command line as runc would. `argv` begins with global options or a verb. */
export async function runOciCommand(argv: readonly string[], context: Context): Promise<number> {
  let log: OciLog = { path: undefined, format: 'text' };
  let verb: OciVerb | undefined;
  try {
    const { flags, args } = parseGoFlags(globalFlags, argv);
    log = logOf(flags);
    const [name, ...rest] = args;
    if (flags.bool('version')) {
      await context.print(ociVersionText(context.deps.daemon.version));
      return 0;
    }
    if (name === undefined || flags.bool('help') || name === 'help') {
      await context.print(ociHelp());
      return 0;
    }
    verb = findOciVerb(name);
    if (verb === undefined) {
      await context.complain(`No help topic for '${printable(name)}'\n`);
      return unknownCommand;
    }
    if (rest.some((argument) => argument === '--help' || argument === '-h') && asksForHelp(verb, rest)) {
      await context.print(ociVerbHelp(verb));
      return 0;
    }
    return await runOciVerb(verb, rest, { argv, globals: flags }, context);
  } catch (error) {
    context.signal.throwIfAborted();
    if (!isHrunError(error)) throw error;
    const misused = error instanceof UsageError;
    if (misused) {
      const help = verb === undefined ? ociHelp() : ociVerbHelp(verb);
      await context.print(`Incorrect Usage: ${textOf(error)}\n\n${help}`);
    }
    await logError(textOf(error), log, context);
    return misused ? failed : (verb?.failureCode ?? failed);
  }
}

async function runOciVerb(
  verb: OciVerb,
  rest: readonly string[],
  command: GivenCommand,
  context: Context,
): Promise<number> {
  const { flags, args } = parseGoFlags(verb.flags, rest);
  checkCount(verb, args.length);
  const engine = await context.deps.engine();
  const makes = verb.name === 'create' || verb.name === 'run';
  const scope = await scopeOf(command.globals.text('root'), makes, context.session.files, context.signal);
  const call: OciCall = {
    context,
    flags,
    args,
    engine,
    oci: engine.oci,
    caller: { files: context.session.files, uid: context.deps.daemon.uid },
    signal: context.signal,
    scope,
    command,
    name: () => ({ scope, id: checkedId(args[0]) }),
  };
  const runtime = await otherRuntimeFor(verb, call);
  return runtime === undefined ? await verb.run(call) : await handOver(runtime, verb, call);
}

/** Help is an option of the verb, not of the command that it is to run. */
function asksForHelp(verb: OciVerb, rest: readonly string[]): boolean {
  const help = { name: 'help', aliases: ['h'], kind: 'bool', description: '' } as const;
  try {
    return parseGoFlags([...verb.flags, help], rest).flags.bool('help');
  } catch {
    return false;
  }
}

function logOf(flags: Flags): OciLog {
  const format = flags.text('log-format') ?? 'text';
  if (format !== 'text' && format !== 'json') {
    throw usageError(`invalid log-format: ${printable(format)}`);
  }
  return { path: flags.text('log'), format };
}

function checkCount({ name, args: [min, max] }: OciVerb, count: number): void {
  if (count >= min && count <= max) return;
  const wanted = min === max ? `exactly ${min}` : count < min ? `a minimum of ${min}` : `a maximum of ${max}`;
  throw usageError(`hrun: "${name}" requires ${wanted} argument(s)`);
}

/** As runc's validateID. @throws HrunError INVALID_ARGUMENT */
function checkedId(id: string | undefined): string {
  if (id === undefined || id === '') throw new HrunError('INVALID_ARGUMENT', 'container id cannot be empty');
  if (!/^[A-Za-z0-9_+.-]{1,1024}$/.test(id) || id === '.' || id === '..') {
    throw new HrunError('INVALID_ARGUMENT', 'invalid container ID format');
  }
  return id;
}

function textOf(error: HrunError): string {
  const text = printable(messageOf(error).replaceAll(/\s*\n\s*/g, ' '), maxMessageLength);
  return error.hint === undefined ? text : `${text} (${printable(error.hint, maxMessageLength)})`;
}
