import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cgroupWith, isV2 } from '../../sys/cgroups.ts';
import type { LiveOci } from './liveOci.ts';
import type { OciStats } from './ociEngine.ts';
import type { OciRecord } from './ociRecord.ts';

/** Files of the host's cgroup that `events` tells of, by controller; v1 and v2. */
const hostFiles: Readonly<
  Record<string, { readonly v1: readonly string[]; readonly v2: readonly string[] }>
> = {
  memory: {
    v1: [
      'memory.usage_in_bytes',
      'memory.max_usage_in_bytes',
      'memory.failcnt',
      'memory.limit_in_bytes',
      'memory.stat',
      ...['memory.memsw', 'memory.kmem', 'memory.kmem.tcp'].flatMap((name) =>
        ['usage_in_bytes', 'max_usage_in_bytes', 'failcnt', 'limit_in_bytes'].map(
          (file) => `${name}.${file}`,
        ),
      ),
    ],
    v2: [
      ...['memory.current', 'memory.max', 'memory.events', 'memory.stat'],
      ...['memory.swap.current', 'memory.swap.max'],
    ],
  },
  cpuacct: { v1: ['cpuacct.usage', 'cpuacct.usage_percpu', 'cpuacct.stat'], v2: [] },
  cpu: { v1: ['cpu.stat'], v2: ['cpu.stat'] },
  pids: { v1: ['pids.current', 'pids.max'], v2: ['pids.current', 'pids.max'] },
};

/** What the host's cgroup and the guest's say right now. */
export async function readStats(record: OciRecord, live: LiveOci, signal: AbortSignal): Promise<OciStats> {
  const host: Record<string, string> = {};
  for (const [controller, files] of Object.entries(hostFiles)) {
    const cgroup = cgroupWith(controller, record.cgroups);
    if (cgroup === undefined) continue;
    for (const file of isV2(cgroup) ? files.v2 : files.v1) {
      const text = await readFile(join(cgroup.directory, file), 'utf8').catch(() => undefined);
      if (text !== undefined) host[file] = text;
    }
  }
  const { client } = await live.sandbox.guest.agent(signal);
  return { host, guest: await client.containerStats(record.id, signal) };
}
