import type { ProcessIdentity } from '../sys/processes.ts';

/**
 * A share server that was started before anybody knew what it will serve: its tree holds one empty directory, until the
 * stand-in of a container lends it more (docs/stand-in.md, "Several in one tree").
 */
export interface ShareHost extends AsyncDisposable {
  /** The stand-in that the server belongs to. */
  readonly process: ProcessIdentity;
  /** Where QEMU finds the server (vhost-user). */
  readonly socketPath: string;
  /** Name of the empty directory at the top of its tree, read-only, with mount points for what every container mounts. */
  readonly emptyShare: string;
  /** Settles when the server or its stand-in is gone; never rejects. */
  readonly ended: Promise<void>;
  /** Ends the server, and with it every file that it has open. */
  closeShares(signal: AbortSignal): Promise<void>;
}
