import type { ResourcesSpec } from '../../oci/resourcesSpec.ts';
import { guestResourcesOf } from '../../oci/specResources.ts';
import { applyHostLimits } from './hostLimits.ts';
import type { LiveOci } from './liveOci.ts';
import type { OciRecord } from './ociRecord.ts';

/**
 * Changes limits while a container lives: in the guest, where they hold, and in the host's cgroup, which keeps room for
 * the whole microVM. A microVM does not grow: more memory than it was made with is refused by nobody and used by nobody.
 */
export async function updateOci(
  record: OciRecord,
  live: LiveOci,
  resources: ResourcesSpec,
  signal: AbortSignal,
): Promise<void> {
  const { client } = await live.sandbox.guest.agent(signal);
  await client.updateContainer({ containerId: record.id, resources: guestResourcesOf(resources) }, signal);
  await applyHostLimits(resources, record.cgroups, record.vmMemoryMiB, record.accelerator ?? 'tcg');
}
