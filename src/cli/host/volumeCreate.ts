import { Option } from 'commander';
import { parseVolumeName, type VolumeDriver, volumeDrivers } from '../../runtime/volumes/volumeDefinition.ts';
import { exitCodes } from '../exitCodes.ts';
import { addList, sizeOption } from '../flags.ts';
import { parseLabel } from '../parse/environment.ts';
import type { Verb } from '../verb.ts';

interface VolumeCreateFlags {
  readonly driver: VolumeDriver;
  readonly label: readonly string[];
  readonly size?: number;
}

export const volumeCreate: Verb = {
  configure(command) {
    command.addOption(
      new Option('-d, --driver <driver>', 'A directory of the host, or a disk with an ext4')
        .choices(volumeDrivers)
        .default('dir'),
    );
    addList(command, '--label <label>', 'Set a label: KEY=value');
    command.option('--size <size>', 'Size of a disk (default: as storageSize says)', sizeOption('--size'));
  },

  async run(command, context) {
    const { driver, label, size } = command.opts<VolumeCreateFlags>();
    const [name] = command.args;
    const engine = await context.deps.engine();
    const volume = await engine.volumes.create(
      {
        driver,
        labels: Object.fromEntries(label.map(parseLabel)),
        ...(name !== undefined && { name: parseVolumeName(name) }),
        ...(size !== undefined && { sizeBytes: size }),
      },
      context.signal,
    );
    await context.print(`${volume.name}\n`);
    return exitCodes.ok;
  },
};

export const volumeResize: Verb = {
  configure(command) {
    command.requiredOption('--size <size>', 'What it is to have', sizeOption('--size'));
  },

  async run(command, context) {
    const { size } = command.opts<{ readonly size: number }>();
    const [name = ''] = command.args;
    const engine = await context.deps.engine();
    await engine.volumes.resize(name, size);
    await context.print(`${name}\n`);
    return exitCodes.ok;
  },
};
