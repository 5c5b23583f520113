import type { VolumeDetails } from '../../runtime/volumes/volumeViews.ts';
import { complainOfDamage } from '../complainOfDamage.ts';
import { exitCodes } from '../exitCodes.ts';
import { addList } from '../flags.ts';
import { matches, parseFilters, passes, passesLabels } from '../parse/filters.ts';
import { type ListShape, type Row, renderList } from '../render/format.ts';
import type { Verb } from '../verb.ts';

interface VolumeLsFlags {
  readonly filter: readonly string[];
  readonly format?: string;
  readonly quiet?: true;
}

const shape: ListShape = {
  headers: {
    Name: 'VOLUME NAME',
    Driver: 'DRIVER',
    Scope: 'SCOPE',
    Mountpoint: 'MOUNTPOINT',
    Labels: 'LABELS',
    Links: 'LINKS',
    Size: 'SIZE',
  },
  columns: ['Driver', 'Name'],
};
const filterKeys = ['dangling', 'driver', 'label', 'name'];

export const volumeLs: Verb = {
  configure(command) {
    addList(command, '-f, --filter <filter>', `Show those with NAME=VALUE (${filterKeys.join(', ')})`);
    command.option('--format <format>', 'json, or a Go template, also "table TEMPLATE"');
    command.option('-q, --quiet', 'Show names only');
  },

  async run(command, context) {
    const flags = command.opts<VolumeLsFlags>();
    const filters = parseFilters(flags.filter, filterKeys);
    const { volumes, system } = await context.deps.engine();
    const chosen = volumes
      .list()
      .filter(
        ({ volume, usedBy }) =>
          passes(filters, 'name', (value) => matches(volume.name, value)) &&
          passes(filters, 'driver', (value) => volume.driver === value) &&
          passes(filters, 'dangling', (value) => ['true', '1'].includes(value) === (usedBy.length === 0)) &&
          passesLabels(filters, volume.labels),
      );
    const quiet = flags.quiet === true && flags.format === undefined;
    await context.print(
      quiet
        ? chosen.map(({ volume }) => `${volume.name}\n`).join('')
        : renderList(chosen.map(volumeRow), shape, flags.format),
    );
    await complainOfDamage('volume', system, context);
    return exitCodes.ok;
  },
};

function volumeRow({ volume: { name, driver, labels }, mountpoint, usedBy }: VolumeDetails): Row {
  return {
    Name: name,
    Driver: driver,
    Scope: 'local',
    Mountpoint: mountpoint,
    Labels: Object.entries(labels)
      .map(([key, value]) => `${key}=${value}`)
      .join(','),
    Links: String(usedBy.length),
    Size: 'N/A',
    Label: (key) => labels[String(key)] ?? '',
  };
}
