import { type ErrorCode, isHrunError } from '../base/errors.ts';

/** The one place that decides how hrun's own failures end; docs/errors.md shows the same table. */
export const exitCodes = {
  ok: 0,
  /** A verb failed. */
  failed: 1,
  /** The command line itself is wrong, or hrun failed where the exit code is otherwise the workload's. */
  hrunFailed: 125,
  notExecutable: 126,
  notFound: 127,
} as const;

/** Failures of the workload's own command line, by Docker's convention. */
const ofWorkload: Partial<Record<ErrorCode, number>> = {
  COMMAND_NOT_EXECUTABLE: exitCodes.notExecutable,
  COMMAND_NOT_FOUND: exitCodes.notFound,
};

/**
 * The exit code for what a verb threw. `answersForWorkload`: as Docker has it only `run` sets its own failures apart from
 * the workload's codes.
 */
export function exitCodeOf(error: unknown, answersForWorkload: boolean): number {
  const workload = isHrunError(error) ? ofWorkload[error.code] : undefined;
  if (workload !== undefined) return workload;
  return answersForWorkload ? exitCodes.hrunFailed : exitCodes.failed;
}
