import type { JailStep } from '../../base/jailSteps.ts';

/** How QEMU is locked in on this host. */
export interface JailPolicy {
  /** The native binary of hrun, which becomes QEMU (src/front, jail). Undefined when it was not built. */
  readonly launcherPath: string | undefined;
  /** Directory (0700) for the file systems that QEMU sees. */
  readonly treesDir: string;
  /** Users that nobody else has, one for each VM. Of use to root only. */
  readonly uids: { readonly first: number; readonly count: number };
  /** The largest file that a QEMU may write whose disks are not known yet. */
  readonly fileBytes: number;
  /** The daemon's run directory: tells its cgroups from those of other daemons. */
  readonly owner: string;
  /** Steps that may be impossible here. */
  readonly allowed: readonly JailStep[];
}

/** What QEMU was locked in with, as far as it differs from VM to VM; part of a VM's record. */
export interface JailFacts {
  /** User and group of its own; none where the daemon is not root. */
  readonly uid?: number | undefined;
  /** Steps that were not possible and that somebody had allowed to be missing. */
  readonly weaker: readonly string[];
}
