import { isHrunError } from '../../base/errors.ts';
import type { VolumeDetails } from '../../runtime/volumes/volumeViews.ts';
import { exitCodes } from '../exitCodes.ts';
import { describeError } from '../printError.ts';
import { lineJson, prettyJson } from '../render/json.ts';
import { compileTemplate } from '../render/template.ts';
import type { Verb } from '../verb.ts';

export const volumeInspect: Verb = {
  configure(command) {
    command.option('-f, --format <format>', 'json, or a Go template');
  },

  /** What was found is shown even if something else was not. */
  async run(command, context) {
    const { format } = command.opts<{ readonly format?: string }>();
    const template = format === undefined || format === 'json' ? undefined : compileTemplate(format);
    const { volumes } = await context.deps.engine();
    const found: object[] = [];
    let failures = '';
    for (const name of command.args) {
      try {
        found.push(inspectVolume(volumes.inspect(name)));
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
