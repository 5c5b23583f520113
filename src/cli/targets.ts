import { isHrunError } from '../base/errors.ts';
import type { Context } from './deps.ts';
import { exitCodes } from './exitCodes.ts';
import { describeError } from './printError.ts';

/**
 * Does one thing to each of several objects, as Docker does: what succeeded is printed, what failed is told, and the
 * rest is tried all the same. `work` answers the line to print; nothing for none.
 */
export async function forEachTarget(
  targets: readonly string[],
  context: Context,
  work: (target: string) => Promise<string | undefined>,
): Promise<number> {
  let code: number = exitCodes.ok;
  for (const target of targets) {
    try {
      const line = await work(target);
      if (line !== undefined) await context.print(`${line}\n`);
    } catch (error) {
      context.signal.throwIfAborted();
      if (!isHrunError(error)) throw error;
      await context.complain(describeError(error));
      code = exitCodes.failed;
    }
  }
  return code;
}
