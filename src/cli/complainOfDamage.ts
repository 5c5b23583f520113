import { type Damage, describeDamage } from '../base/damage.ts';
import { printable } from '../base/text.ts';
import type { SystemEngine } from '../runtime/engine.ts';
import type { Context } from './deps.ts';

const maxLineLength = 1000;

/** Beside a list of what can be read: what is missing in it, on stderr, so that no script takes the list for the whole. */
export async function complainOfDamage(
  kind: Damage['kind'],
  system: Pick<SystemEngine, 'damages'>,
  context: Context,
): Promise<void> {
  for (const damage of system.damages()) {
    if (damage.kind !== kind) continue;
    const [what, remedy] = [describeDamage(damage), damage.remedy].map((line) =>
      printable(line, maxLineLength),
    );
    await context.complain(`hrun: warning: ${what}\nhint: ${remedy}\n`);
  }
}
