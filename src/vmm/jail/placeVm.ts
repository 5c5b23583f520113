import { HrunError, messageOf } from '../../base/errors.ts';
import { type HostCgroup, removeCgroups } from '../../sys/cgroups.ts';
import type { VmRequest } from '../microVm.ts';
import type { MissingStep } from './launch.ts';
import type { JailPolicy } from './policy.ts';
import { makeVmCgroups, type VmLimits } from './vmCgroups.ts';

const removeLimitMs = 10_000;

export interface Place {
  /** Directories of cgroups that QEMU starts in. */
  readonly cgroups: readonly string[];
  /** Those that were made for it, and go with it. */
  readonly own: readonly HostCgroup[];
  readonly missing: readonly MissingStep[];
}

/**
 * The cgroups of a VM: those that it was given, or its own. Who is not root has none.
 * @throws HrunError JAIL_FAILED when they cannot be made, unless that was allowed
 */
export async function placeVm(
  { id, shape, cgroups }: Pick<VmRequest, 'id' | 'cgroups'> & { readonly shape: VmLimits },
  policy: JailPolicy,
): Promise<Place> {
  if (cgroups !== undefined) return { cgroups, own: [], missing: [] };
  if (process.geteuid?.() !== 0) return { cgroups: [], own: [], missing: [] };
  try {
    const own = await makeVmCgroups(id, shape, policy.owner);
    return { cgroups: own.map(({ directory }) => directory), own, missing: [] };
  } catch (cause) {
    const why = `no cgroup could be made for QEMU: ${messageOf(cause)}`;
    if (policy.allowed.includes('cgroup'))
      return { cgroups: [], own: [], missing: [{ step: 'cgroup', why }] };
    throw new HrunError('JAIL_FAILED', why, {
      cause,
      hint: 'the configuration can allow to go without: allowWeakerJail: ["cgroup"]',
    });
  }
}

/** Takes them away once nothing lives in them; what is left is swept by the next daemon. */
export async function leavePlace(directories: readonly string[]): Promise<void> {
  const cgroups = directories.map((directory) => ({ directory }));
  await removeCgroups(cgroups, AbortSignal.timeout(removeLimitMs)).catch(() => {});
}
