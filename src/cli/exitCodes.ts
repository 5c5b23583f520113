import { type ErrorCode, isHrunError } from '../base/errors.ts';

/** The one place that decides how hrun's own failures end; docs/errors.md shows the same table. */
export const exitCodes = {
  ok: 0,
  /** A verb failed. */
  failed: 1,
  /** A template of `--format` cannot be parsed: EX_USAGE of sysexits(3). */
  wrongTemplate: 64,
  /** The command line itself is wrong, or hrun failed where the exit code is otherwise the workload's. */
  hrunFailed: 125,
  notExecutable: 126,
  notFound: 127,
} as const;

/** Failures with a code of their own whatever the verb, by Docker's convention. */
const byCode: Partial<Record<ErrorCode, number>> = {
  TEMPLATE_INVALID: exitCodes.wrongTemplate,
  COMMAND_NOT_EXECUTABLE: exitCodes.notExecutable,
  COMMAND_NOT_FOUND: exitCodes.notFound,
};

/**
 * The exit code for what a verb threw. `answersForWorkload`: as Docker has it only `run` sets its own failures apart from
 * the workload's codes.
 */
export function exitCodeOf(error: unknown, answersForWorkload: boolean): number {
  const fixed = isHrunError(error) ? byCode[error.code] : undefined;
  if (fixed !== undefined) return fixed;
  return answersForWorkload ? exitCodes.hrunFailed : exitCodes.failed;
}
