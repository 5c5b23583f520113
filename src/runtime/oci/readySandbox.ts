import type { PhaseClock } from '../../base/phases.ts';
import { type GuestVm, personalizeGuest } from '../../pool/guestVm.ts';
import { endPooled } from '../../pool/readyGuest.ts';
import type { ShareHost } from '../../pool/shareHost.ts';
import { descendantsOf } from '../../sys/processes.ts';
import type { VmShape } from '../../vmm/microVm.ts';
import { isBesideDaemon } from '../besideDaemon.ts';
import type { CallerFiles } from '../callerFiles.ts';
import { shareTag } from '../guestDevices.ts';
import { joinCgroups } from './hostCgroups.ts';
import { nicSlots } from './networkOci.ts';
import type { OciDeps } from './ociDeps.ts';
import type { HostCgroup } from './ociRecord.ts';

/** A microVM that was made before its container was known; disposing ends it, with its share. */
export interface ReadySandbox extends AsyncDisposable {
  readonly runDir: string;
  readonly guest: GuestVm;
  readonly host: ShareHost;
  /** Settles when the guest is distinct from every other. @throws HrunError as personalizeGuest */
  readonly distinct: Promise<void>;
}

/**
 * Takes a waiting microVM of this shape, if there is one that the caller's stand-in can lend its directories to, and
 * wakes it. Undefined means: boot one.
 */
export async function claimReady(
  shape: VmShape,
  files: CallerFiles,
  phases: PhaseClock,
  { pool, log }: Pick<OciDeps, 'pool' | 'log'>,
  signal: AbortSignal,
): Promise<ReadySandbox | undefined> {
  if (!(await isBesideDaemon(files, signal))) return undefined;
  const claimed = pool.claimServed(shape, { nicSlots, tag: shareTag });
  if (claimed?.host === undefined) return undefined;
  const { runDir, guest, host } = claimed;
  await using undo = new AsyncDisposableStack();
  undo.defer(() => endPooled(claimed));
  try {
    await guest.vm.resume(signal);
    await guest.agent(signal);
  } catch (error) {
    signal.throwIfAborted();
    log.warn({ err: error }, 'a microVM had died while it waited');
    return undefined;
  }
  phases.launched({ kind: 'pooled' });
  phases.end('wake');
  const distinct = personalizeGuest(guest, 'hrun', signal);
  distinct.catch(() => {}); // told when it is awaited
  const owned = undo.move();
  return { runDir, guest, host, distinct, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Moves QEMU and the share server of a microVM into the cgroups of its container, before anything of it runs. */
export async function moveToCgroups(
  { guest, host }: Pick<ReadySandbox, 'guest' | 'host'>,
  cgroups: readonly HostCgroup[],
): Promise<void> {
  const standIn = host.process.pid;
  const pids = [guest.vm.record.pid, standIn, ...(await descendantsOf(standIn))];
  for (const pid of pids) await joinCgroups(pid, cgroups);
}
