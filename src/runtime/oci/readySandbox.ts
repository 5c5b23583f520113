import { readlink } from 'node:fs/promises';
import type { PhaseClock } from '../../base/phases.ts';
import { personalizeGuest } from '../../pool/guestVm.ts';
import { endServed, type ServedGuest } from '../../pool/readyGuest.ts';
import { descendantsOf } from '../../sys/processes.ts';
import type { VmShape } from '../../vmm/microVm.ts';
import type { CallerFiles } from '../callerFiles.ts';
import { shareTag } from '../guestDevices.ts';
import { joinCgroups } from './hostCgroups.ts';
import { nicSlots } from './networkOci.ts';
import type { OciDeps } from './ociDeps.ts';
import type { HostCgroup } from './ociRecord.ts';

/** Those that decide whether a stand-in can reach a share server that the daemon started: by its pid, and as its root. */
const decisive = ['pid', 'user'] as const;

/** A microVM that was made before its container was known; disposing ends it, with its share. */
export interface ReadySandbox extends AsyncDisposable {
  readonly served: ServedGuest;
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
  const served = pool.claimServed({ shape, nicSlots, tag: shareTag });
  if (served === undefined) return undefined;
  await using undo = new AsyncDisposableStack();
  undo.defer(() => endServed(served));
  try {
    await served.guest.vm.resume(signal);
    await served.guest.agent(signal);
  } catch (error) {
    signal.throwIfAborted();
    log.warn({ err: error }, 'a microVM had died while it waited');
    return undefined;
  }
  phases.launched({ kind: 'pooled' });
  phases.end('wake');
  const distinct = personalizeGuest(served.guest, 'hrun', signal);
  distinct.catch(() => {}); // told when it is awaited
  const owned = undo.move();
  return { served, distinct, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Moves QEMU and the share server of a microVM into the cgroups of its container, before anything of it runs. */
export async function moveToCgroups(
  { guest, host }: ServedGuest,
  cgroups: readonly HostCgroup[],
): Promise<void> {
  const standIn = host.process.pid;
  const pids = [guest.vm.record.pid, standIn, ...(await descendantsOf(standIn))];
  for (const pid of pids) await joinCgroups(pid, cgroups);
}

async function isBesideDaemon(files: CallerFiles, signal: AbortSignal): Promise<boolean> {
  const same = decisive.map(async (name) => {
    const path = `/proc/self/ns/${name}`;
    const [caller, own] = await Promise.all([files.stat(path, { followLink: true }, signal), readlink(path)]);
    return own.endsWith(`[${caller.inode}]`);
  });
  return (await Promise.all(same).catch(() => [false])).every(Boolean);
}
