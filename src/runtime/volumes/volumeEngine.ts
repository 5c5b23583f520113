import { randomBytes } from 'node:crypto';
import { HrunError } from '../../base/errors.ts';
import type { VolumeEngine } from '../engine.ts';
import type { RuntimeDeps } from '../runtimeDeps.ts';
import { exportVolume, importVolume } from './transferVolume.ts';
import type { VolumeDefinition } from './volumeDefinition.ts';
import type { VolumeDetails } from './volumeViews.ts';

/** What the verbs of volumes mean. */
export function volumeEngine(deps: RuntimeDeps): VolumeEngine {
  const { volumes, store } = deps;

  function detailsOf(volume: VolumeDefinition): VolumeDetails {
    const has = store
      .list()
      .filter(({ config }) => config.namedVolumes.some(({ name }) => name === volume.name));
    return { volume, mountpoint: volumes.contentOf(volume), usedBy: has.map(({ id }) => id) };
  }

  /** @throws HrunError VOLUME_IN_USE */
  function unused(name: string, doing: string): VolumeDefinition {
    const { volume, usedBy } = detailsOf(volumes.find(name));
    if (usedBy.length === 0) return volume;
    throw new HrunError('VOLUME_IN_USE', `${doing} ${name}: volume is in use - [${usedBy.join(', ')}]`, {
      hint: 'remove these containers first',
    });
  }

  return {
    async create({ name, ...request }, signal) {
      const anonymous = name === undefined;
      return await volumes.ensure(
        { ...request, anonymous, name: name ?? randomBytes(32).toString('hex') },
        signal,
      );
    },
    list: () => volumes.list().map(detailsOf),
    inspect: (name) => detailsOf(volumes.find(name)),
    remove: (name) => volumes.remove(unused(name, 'remove').name),
    async prune(chosen) {
      const names: string[] = [];
      let reclaimedBytes = 0;
      for (const volume of volumes.list().filter(chosen)) {
        const bytes = await volumes.usedBytes(volume);
        if (detailsOf(volume).usedBy.length > 0) continue;
        await volumes.remove(volume.name);
        names.push(volume.name);
        reclaimedBytes += bytes;
      }
      return { names, reclaimedBytes };
    },
    async resize(name, sizeBytes) {
      const { usedBy } = detailsOf(volumes.find(name));
      const running = usedBy.filter((id) => deps.live.get(id) !== undefined);
      if (running.length > 0) {
        throw new HrunError('VOLUME_IN_USE', `resize ${name}: volume is in use - [${running.join(', ')}]`, {
          hint: 'stop these containers first',
        });
      }
      await volumes.grow(name, sizeBytes);
    },
    export: (name, write, caller, signal) => exportVolume(volumes.find(name), write, caller, deps, signal),
    import: (name, bytes, caller, signal) => importVolume(volumes.find(name), bytes, caller, deps, signal),
  };
}
