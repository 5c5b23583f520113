import { isHrunError } from '../base/errors.ts';
import type { AttachRecord } from '../runtime/attachRecord.ts';
import type { StreamOffsets } from '../runtime/engine.ts';
import type { CliDeps, Context } from './deps.ts';
import { exitCodeOf, exitCodes } from './exitCodes.ts';
import { faceOf, faceOfContainer } from './oci/face.ts';
import type { FlagSpec } from './oci/goFlags.ts';
import { describeError } from './printError.ts';
import type { Session } from './session.ts';
import { findVerb } from './verbs.ts';

/** Called by the scripts of `hrun completion`, not by people. */
const completionVerb = '__complete';

/**
 * Runs one command line to its exit code. What goes wrong is printed on the command's stderr; only a lost front door
 * rejects.
 * @throws the reason of the session's signal
 */
export async function runCommand(session: Session, deps: CliDeps): Promise<number> {
  const context = contextOf(session, deps);
  const [first, ...words] = session.argv;
  if (first === completionVerb) {
    const { complete } = await import('./complete.ts');
    return await complete(words, context);
  }
  const face = await faceOf(session.argv, ociFlagsOf);
  if (face.kind === 'oci') return await runOci(face.argv, context);
  if (face.kind === 'container') {
    try {
      const settled = await faceOfContainer(face, await deps.engine(), context.signal);
      if (settled === 'oci') return await runOci(session.argv, context);
    } catch (error) {
      return fail(error, false, context);
    }
  }
  const found = findVerb(session.argv);
  try {
    if (found.kind === 'help') {
      const { rootHelp } = await import('./help.ts');
      await context.print(rootHelp());
      return exitCodes.ok;
    }
    if (found.kind === 'group') {
      const { groupHelp } = await import('./help.ts');
      if (found.asked) await context.print(groupHelp(found.group));
      else await context.complain(groupHelp(found.group));
      return exitCodes.ok;
    }
    if (found.kind === 'unknown') {
      await context.complain(
        `hrun: unknown command: hrun ${found.name}\n${found.suggestion}See 'hrun --help'.\n`,
      );
      return exitCodes.failed;
    }
    const { runVerb } = await import('./runVerb.ts');
    return await runVerb(found.entry, found.args, context);
  } catch (error) {
    const answersForWorkload = found.kind === 'verb' && found.entry.answersForWorkload === true;
    return fail(error, answersForWorkload, context);
  }
}

async function runOci(argv: readonly string[], context: Context): Promise<number> {
  const { runOciCommand } = await import('./oci/ociMain.ts');
  return await runOciCommand(argv, context);
}

async function ociFlagsOf(verb: string): Promise<readonly FlagSpec[]> {
  const { findOciVerb } = await import('./oci/verbs.ts');
  return findOciVerb(verb)?.flags ?? [];
}

/** Goes on with an attached command whose front door came back. */
export async function resumeCommand(
  session: Session,
  deps: CliDeps,
  record: AttachRecord,
  received: StreamOffsets,
): Promise<number> {
  const context = contextOf(session, deps);
  try {
    const { openAttachIo } = await import('./attachTerminal.ts');
    const { finishAttached } = await import('./finishAttached.ts');
    const io = openAttachIo(session, { stdin: record.openStdin, detachKeys: record.detachKeys });
    const engine = await deps.engine();
    const ended = await engine.containers.resume(record, received, io, session.signal);
    return await finishAttached(ended, io, context);
  } catch (error) {
    return fail(error, true, context);
  }
}

async function fail(error: unknown, answersForWorkload: boolean, context: Context): Promise<number> {
  // With nobody left to tell, the failure is the lost front door's.
  context.signal.throwIfAborted();
  if (!isHrunError(error)) throw error;
  await context.complain(describeError(error));
  return exitCodeOf(error, answersForWorkload);
}

function contextOf(session: Session, deps: CliDeps): Context {
  return {
    session,
    deps,
    signal: session.signal,
    print: (text) => session.stdout.write(Buffer.from(text), session.signal),
    complain: (text) => session.stderr.write(Buffer.from(text), session.signal),
  };
}
