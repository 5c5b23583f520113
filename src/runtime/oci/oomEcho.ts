import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cgroupWith, isV2 } from '../../sys/cgroups.ts';
import type { HostCgroup } from './ociRecord.ts';
import type { StandInLink } from './standInLink.ts';

/** Room for the process that is to be killed to get that far. */
const roomBytes = 2 * 1024 * 1024;

/**
 * Makes the host's kernel count an OOM kill in the container's memory cgroup, because one happened in its guest: managers
 * look nowhere else. The microVM is gone by now; a child of the stand-in dies in its place.
 */
export async function echoOom(
  link: StandInLink,
  cgroups: readonly HostCgroup[],
  signal: AbortSignal,
): Promise<void> {
  const cgroup = cgroupWith('memory', cgroups);
  if (cgroup === undefined) return;
  const [usage, limit] = isV2(cgroup)
    ? ['memory.current', 'memory.max']
    : ['memory.usage_in_bytes', 'memory.limit_in_bytes'];
  const used = Number(await readFile(join(cgroup.directory, usage), 'utf8'));
  const before = (await readFile(join(cgroup.directory, limit), 'utf8')).trim();
  await writeFile(join(cgroup.directory, limit), String(used + roomBytes));
  try {
    await link.outgrow(signal);
  } finally {
    await writeFile(join(cgroup.directory, limit), before);
  }
}
