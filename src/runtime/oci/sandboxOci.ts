import { basename } from 'node:path';
import { HrunError } from '../../base/errors.ts';
import { parseContainerId, parseVmId } from '../../base/ids.ts';
import type { PhaseClock } from '../../base/phases.ts';
import { openGuestVm } from '../../pool/bootedGuest.ts';
import type { VmRequest, VmShape } from '../../vmm/microVm.ts';
import { shareTag } from '../guestDevices.ts';
import type { Sandbox } from './liveOci.ts';
import { nicSlots } from './networkOci.ts';
import type { OciDeps } from './ociDeps.ts';
import type { HostCgroup, OciRecord } from './ociRecord.ts';
import { moveToCgroups, type ReadySandbox } from './readySandbox.ts';

/** Another container's microVM, one that waited, or a new one. */
export async function openSandbox(
  record: OciRecord,
  joined: OciRecord | undefined,
  ready: ReadySandbox | undefined,
  shape: VmShape,
  sharePath: string,
  cgroups: readonly HostCgroup[],
  phases: PhaseClock,
  deps: OciDeps,
  signal: AbortSignal,
): Promise<Sandbox> {
  if (joined !== undefined) {
    const live = deps.live.get(joined.id);
    if (live === undefined) throw new HrunError('VM_DIED', `container ${joined.name} is ending`);
    return live.sandbox;
  }
  const owner = record.id;
  if (ready !== undefined) {
    const { guest, host } = ready;
    await moveToCgroups(ready, cgroups);
    await ready.distinct;
    return { owner, guest, host, members: new Set(), end: async () => await ready[Symbol.asyncDispose]() };
  }
  // More at once than there are processors only makes every one of them late.
  using _turn = await deps.boots.enter(signal);
  phases.end('turn');
  phases.launched({ kind: 'cold' });
  const request: VmRequest = {
    id: parseVmId(basename(record.vmRunDir)),
    runDir: record.vmRunDir,
    shape,
    nicSlots,
    share: { tag: shareTag, socketPath: sharePath },
    cgroups: cgroups.map(({ directory }) => directory),
  };
  const guest = await openGuestVm(request, 'hrun', await deps.vmm(signal), deps.config, phases, signal);
  const end = async () => await guest[Symbol.asyncDispose]();
  return { owner, guest, host: undefined, members: new Set(), end };
}

/** The pid, in the caller's namespace, of the stand-in whose share server the microVM of `member` uses. */
export function serverOf(member: OciRecord, { store }: Pick<OciDeps, 'store'>): number {
  const owner = store.get(parseContainerId(member.sandbox));
  const pid = owner?.shareHost?.hostPid ?? owner?.standIn?.pid;
  if (pid !== undefined) return pid;
  throw new HrunError('VM_DIED', `the microVM that container ${member.name} lives in is ending`);
}
