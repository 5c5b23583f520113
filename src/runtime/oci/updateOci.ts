import { HrunError } from '../../base/errors.ts';
import type { ResourcesSpec } from '../../oci/resourcesSpec.ts';
import { guestResourcesOf } from '../../oci/specResources.ts';
import { applyHostLimits } from './hostLimits.ts';
import type { LiveOci } from './liveOci.ts';
import type { OciRecord } from './ociRecord.ts';

/** What memory.stat of cgroup v2 counts that the kernel cannot take back; a guest has no swap. */
const unreclaimable = ['anon', 'shmem', 'kernel'];

/**
 * Changes limits while a container lives: in the guest, where they hold, and in the host's cgroup, which keeps room for
 * the whole microVM. A microVM does not grow: more memory than it was made with is refused by nobody and used by nobody.
 * @throws HrunError INVALID_ARGUMENT with runc's text for a memory limit below what is in use
 */
export async function updateOci(
  record: OciRecord,
  live: LiveOci,
  resources: ResourcesSpec,
  signal: AbortSignal,
): Promise<void> {
  const { client } = await live.sandbox.guest.agent(signal);
  const limit = resources.memory?.limit;
  if (limit !== undefined && limit > 0n) {
    refuseTooSmall(limit, await client.containerStats(record.id, signal));
  }
  await client.updateContainer({ containerId: record.id, resources: guestResourcesOf(resources) }, signal);
  await applyHostLimits(resources, record.cgroups, record.vmMemoryMiB, record.accelerator ?? 'tcg');
}

/** A guest's kernel would take such a limit, and kill for it; that of cgroup v1, which runc's callers know, refuses it. */
function refuseTooSmall(limit: bigint, stats: Readonly<Record<string, string>>): void {
  const used = (stats['memory.stat'] ?? '')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([name = '']) => unreclaimable.includes(name))
    .reduce((sum, [, bytes = '0']) => sum + BigInt(bytes), 0n);
  if (limit >= used) return;
  const peak = stats['memory.peak']?.trim() ?? used;
  throw new HrunError(
    'INVALID_ARGUMENT',
    `unable to set memory limit to ${limit} (current usage: ${used}, peak usage: ${peak})`,
  );
}
