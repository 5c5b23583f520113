import { HrunError } from '../base/errors.ts';
import type { AttachIo } from '../runtime/attachIo.ts';
import type { Context } from './deps.ts';
import { withDetachKeys } from './detachKeys.ts';
import { exitCodes } from './exitCodes.ts';
import { describeError } from './printError.ts';
import type { Session } from './session.ts';

export interface AttachTerminal {
  /** Whether the workload gets the command's stdin. */
  readonly stdin: boolean;
  readonly detachKeys: readonly number[];
}

/** The caller's terminal and stdio, as the engine attaches a workload to them. */
export function openAttachIo(session: Session, { stdin, detachKeys }: AttachTerminal): AttachIo {
  const detached = new AbortController();
  const input = withDetachKeys(session.stdin, detachKeys, () => detached.abort());
  return {
    stdin: stdin ? input : undefined,
    stdout: session.stdout,
    stderr: session.stderr,
    get terminalSize() {
      return session.terminalSize;
    },
    onResize: (listener) => session.onResize(listener),
    onSignal: (listener) => session.onSignal(listener),
    rawTerminal: () => session.rawTerminal(),
    detached: detached.signal,
    // The engine does not know the keys; whoever comes back still has them in the fingers.
    makeResumable: (record) => session.makeResumable({ ...record, detachKeys: [...detachKeys] }),
    settle: (exitCode) => session.settle(exitCode),
  };
}

/** Docker's rule for `-it` in scripts. */
export function lacksTerminal(
  session: Session,
  request: { readonly openStdin: boolean; readonly terminal: boolean },
): boolean {
  return request.openStdin && request.terminal && !session.isTerminal.stdin;
}

/** Exit code 1, also of `run`, whose own failures end with 125 otherwise. */
export async function refuseWithoutTerminal(context: Context): Promise<number> {
  const error = new HrunError('INVALID_ARGUMENT', 'the input device is not a TTY', {
    hint: 'leave out -t when stdin is a pipe or a file',
  });
  await context.complain(describeError(error));
  return exitCodes.failed;
}
