import { randomBytes } from 'node:crypto';
import { HrunError } from '../../base/errors.ts';
import type { ContainerId } from '../../base/ids.ts';
import type { VolumeEngine } from '../engine.ts';
import type { RuntimeDeps } from '../runtimeDeps.ts';
import { exportVolume, importVolume } from './transferVolume.ts';
import type { VolumeDefinition } from './volumeDefinition.ts';
import type { VolumeDetails } from './volumeViews.ts';

/** What the verbs of volumes mean. */
export function volumeEngine(deps: RuntimeDeps): VolumeEngine {
  const { volumes, store } = deps;

  function usersOf(volume: string): readonly ContainerId[] {
    return store
      .list()
      .filter(({ config }) => config.namedVolumes.some(({ name }) => name === volume))
      .map(({ id }) => id);
  }

  function detailsOf(volume: VolumeDefinition): VolumeDetails {
    return { volume, mountpoint: volumes.contentOf(volume), usedBy: usersOf(volume.name) };
  }

  /** @throws HrunError NOT_FOUND, VOLUME_IN_USE, STATE_DAMAGED */
  function unused(name: string, doing: string): void {
    refuseUsed(name, detailsOf(volumes.find(name)).usedBy, doing);
  }

  /** @throws HrunError VOLUME_IN_USE */
  function refuseUsed(name: string, usedBy: readonly ContainerId[], doing: string): void {
    if (usedBy.length === 0) return;
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
    async remove(name, { force }) {
      if (force && volumes.isDamaged(name)) refuseUsed(name, usersOf(name), 'remove');
      else unused(name, 'remove');
      await volumes.remove(name);
    },
    async prune(chosen) {
      store.refuseUnknownUsers('prune volumes');
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
