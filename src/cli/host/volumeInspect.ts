import type { VolumeDetails } from '../../runtime/volumes/volumeViews.ts';
import { inspectEach } from '../inspectEach.ts';
import type { Verb } from '../verb.ts';

export const volumeInspect: Verb = {
  configure(command) {
    command.option('-f, --format <format>', 'json, or a Go template');
  },

  async run(command, context) {
    const { format } = command.opts<{ readonly format?: string }>();
    const { volumes } = await context.deps.engine();
    return await inspectEach(command.args, format, (name) => inspectVolume(volumes.inspect(name)), context);
  },
};

/** A volume as `docker volume inspect` shows it. */
function inspectVolume({ volume, mountpoint }: VolumeDetails): object {
  const { name, driver, labels, createdAt, sizeBytes } = volume;
  return {
    CreatedAt: createdAt,
    Driver: driver,
    Labels: new Map(Object.entries(labels)),
    Mountpoint: mountpoint,
    Name: name,
    Options: new Map(sizeBytes === undefined ? [] : [['size', String(sizeBytes)]]),
    Scope: 'local',
  };
}
