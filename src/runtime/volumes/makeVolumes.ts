import type { ContainerRecord } from '../containerRecord.ts';
import type { CreateRequest } from '../runRequest.ts';
import type { VolumeStore } from './volumeStore.ts';

/**
 * Makes the volumes of a container that are not there yet.
 * @throws HrunError ALREADY_EXISTS when one is there and of another driver than the request wants; DISK_FULL
 */
export async function makeVolumes(
  { config }: ContainerRecord,
  { namedVolumes }: Pick<CreateRequest, 'namedVolumes'>,
  volumes: VolumeStore,
  signal: AbortSignal,
): Promise<void> {
  for (const { name, driver, anonymous } of config.namedVolumes) {
    const wish = namedVolumes.find((one) => one.name === name);
    if (wish?.driver === undefined && volumes.get(name) !== undefined) continue;
    await volumes.ensure({ name, driver, anonymous, labels: wish?.labels ?? {} }, signal);
  }
}
