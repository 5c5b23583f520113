import { isHrunError } from '../base/errors.ts';
import type { Context } from './deps.ts';
import { exitCodes } from './exitCodes.ts';
import { describeError } from './printError.ts';
import { lineJson, prettyJson } from './render/json.ts';
import { compileTemplate } from './render/template.ts';

/**
 * Prints objects by name as Docker's `inspect` of one kind does: what was found is shown even if something else was not.
 * @throws HrunError TEMPLATE_INVALID
 */
export async function inspectEach(
  names: readonly string[],
  format: string | undefined,
  inspect: (name: string) => object,
  context: Context,
): Promise<number> {
  const template = format === undefined || format === 'json' ? undefined : compileTemplate(format);
  const found: object[] = [];
  let failures = '';
  for (const name of names) {
    try {
      found.push(inspect(name));
    } catch (error) {
      if (!isHrunError(error)) throw error;
      failures += describeError(error);
    }
  }
  if (template !== undefined) await context.print(found.map((object) => `${template(object)}\n`).join(''));
  else await context.print(`${format === 'json' ? lineJson(found) : prettyJson(found)}\n`);
  if (failures === '') return exitCodes.ok;
  await context.complain(failures);
  return exitCodes.failed;
}
