import type { ContainerId } from '../../base/ids.ts';
import type { ContainerConfig, ContainerRecord } from '../containerRecord.ts';
import { diskKey, volumeKey } from './openMounts.ts';

/** Names of the containers other than `except` that run with this disk or volume. */
export function holdersOf(
  key: string,
  containers: readonly ContainerRecord[],
  except: ContainerId,
): readonly string[] {
  const has = ({ config: { disks, namedVolumes } }: ContainerRecord) =>
    disks.some(({ source }) => diskKey(source) === key) ||
    namedVolumes.some(({ name }) => volumeKey(name) === key);
  return containers
    .filter(({ id, state }) => id !== except && (state.vmRunDir ?? state.joined) !== undefined)
    .filter(has)
    .map(({ name }) => name);
}

/** Whether something of a container is on disks that outlive it: they are synced and unmounted before its microVM goes. */
export function keepsDisks({
  disks,
  namedVolumes,
}: Pick<ContainerConfig, 'disks' | 'namedVolumes'>): boolean {
  return disks.length > 0 || namedVolumes.length > 0;
}
