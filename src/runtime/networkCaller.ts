import type { GuestVm } from '../pool/guestVm.ts';
import type { NetNamespace } from '../sys/netNamespace.ts';
import type { CallerFiles } from './callerFiles.ts';
import type { NameFiles } from './guestNames.ts';

/** Whose network a container becomes part of. */
export interface NetworkCaller {
  readonly files: CallerFiles;
  /** A new handle of the caller's network namespace, to be disposed by who asked. */
  openNetns(): NetNamespace;
}

/** The places of one container in its networks, before and while it runs. Disposing gives them back. */
export interface ContainerNetworking extends AsyncDisposable {
  readonly names: NameFiles;
  /** Connects the guest's devices to the host and tells the agent what they are. */
  connect(guest: GuestVm, signal: AbortSignal): Promise<void>;
}
