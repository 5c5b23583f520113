import { formatMemory } from '../../base/units.ts';
import type { PoolStatus } from '../../pool/pool.ts';
import type { Context } from '../deps.ts';
import { exitCodes } from '../exitCodes.ts';
import { integerOption, sizeOption } from '../flags.ts';
import { shortDigest } from '../render/imageRows.ts';
import { lineJson } from '../render/json.ts';
import { renderTable } from '../render/table.ts';
import type { Verb } from '../verb.ts';

interface SetFlags {
  readonly ready?: number;
  readonly idleTimeout?: number;
  readonly refillPause?: number;
  readonly memory?: number;
  readonly minAvailable?: number;
}

interface StatusFlags {
  readonly format?: 'json';
}

export const poolStatus: Verb = {
  configure(command) {
    command.option('--format <format>', 'json');
  },

  async run(command, context) {
    const { pool } = await context.deps.engine();
    await printStatus(pool.status(), command.opts<StatusFlags>().format === 'json', context);
    return exitCodes.ok;
  },
};

export const poolSet: Verb = {
  configure(command) {
    command.option(
      '--ready <number>',
      'MicroVMs kept ready for each shape and image in use',
      integerOption(0),
    );
    command.option('--idle-timeout <seconds>', 'How long a shape and an image are in use', integerOption(1));
    command.option(
      '--refill-pause <ms>',
      'How long nothing is launched or made before the next is',
      integerOption(0),
    );
    command.option('--memory <size>', 'Memory that all waiting microVMs may take', sizeOption('--memory'));
    command.option(
      '--min-available <percent>',
      "With less of the host's memory available there is no pool",
      integerOption(0),
    );
  },

  async run(command, context) {
    const flags = command.opts<SetFlags>();
    const { pool } = await context.deps.engine();
    const status = await pool.setPolicy({
      ...(flags.ready !== undefined && { ready: flags.ready }),
      ...(flags.idleTimeout !== undefined && { idleTimeoutMs: flags.idleTimeout * 1000 }),
      ...(flags.refillPause !== undefined && { refillPauseMs: flags.refillPause }),
      ...(flags.memory !== undefined && { memoryCeilingBytes: flags.memory }),
      ...(flags.minAvailable !== undefined && { minAvailablePercent: Math.min(flags.minAvailable, 90) }),
    });
    await printStatus(status, false, context);
    return exitCodes.ok;
  },
};

async function printStatus(status: PoolStatus, asJson: boolean, context: Context): Promise<void> {
  if (asJson) return await context.print(`${lineJson(status)}\n`);
  const { policy, shelves, underPressure } = status;
  const rows = shelves.map((shelf) => [
    shelf.key?.slice(0, 12) ?? '-',
    String(shelf.vcpus),
    `${shelf.memoryMiB} MiB`,
    shelf.scope ?? '-',
    shelf.kind,
    shelf.imageId === undefined ? '-' : shortDigest(shelf.imageId),
    `${shelf.ready} of ${policy.ready}`,
    formatMemory(shelf.privateBytes),
  ]);
  const header = ['TEMPLATE', 'CPUS', 'MEMORY', 'SCOPE', 'FOR', 'IMAGE', 'READY', 'PRIVATE'];
  const idle = `idle after ${policy.idleTimeoutMs / 1000} s, at most ${formatMemory(policy.memoryCeilingBytes)}`;
  const pressure = underPressure ? ', EMPTY: memory is short' : '';
  await context.print(
    `${renderTable([header, ...rows])}${policy.ready} ready per shape and image in use, ${idle}${pressure}\n`,
  );
}
