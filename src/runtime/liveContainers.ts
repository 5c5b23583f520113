import type { ContainerId } from '../base/ids.ts';
import { KeyedMutex } from '../base/mutex.ts';
import type { Timing } from '../base/phases.ts';
import type { GuestVm } from '../pool/guestVm.ts';
import type { GuestProcess } from './guestProcess.ts';
import type { OutputLog } from './outputLog.ts';
import type { Tenancy } from './tenancy.ts';
import { FillTurns } from './volumes/fillTurns.ts';

/** How a container ended; on disk before anybody sees it. */
export interface ContainerEnd {
  readonly exitCode: number;
  readonly oomKilled: boolean;
  /** Why, when it was not by the exit of its workload. */
  readonly error: string;
}

/** A container whose workload runs, or is about to. */
export interface LiveContainer {
  readonly id: ContainerId;
  readonly guest: GuestVm;
  /** Whether that microVM is its own, and who else lives there. */
  readonly tenancy: Tenancy;
  readonly log: OutputLog;
  readonly init: GuestProcess;
  /** Settles once the end is on disk and the VM is gone; never rejects. */
  readonly ended: Promise<ContainerEnd>;
  /** Settles once nothing more will happen: removed, if it was to be. Never rejects. */
  readonly finished: Promise<void>;
  /** Commands that still tell the end to somebody: the container is not removed under them. */
  readonly holders: Set<Promise<void>>;
  /** Set while an earlier daemon's command is expected back: to be called once it is, or will not be. */
  expected: (() => void) | undefined;
  /** Who passes input on now; aborting it makes way for another. */
  inputOwner: AbortController | undefined;
  readonly timing: () => Timing;
}

/** The containers that run under this daemon. */
export class LiveContainers {
  /** Held while a container's disks are being given to a microVM: two at once would ruin them. */
  readonly disks = new KeyedMutex<ContainerId>();
  /** Held while a container is connected to a network, or disconnected. */
  readonly networks = new KeyedMutex<ContainerId>();
  readonly fillTurns = new FillTurns();
  readonly #byId = new Map<ContainerId, LiveContainer>();
  readonly #onLaunch: (container: LiveContainer) => void;

  /** @param onLaunch told of each that runs from now on, those of an earlier daemon included */
  constructor(onLaunch: (container: LiveContainer) => void = () => {}) {
    this.#onLaunch = onLaunch;
  }

  get(id: ContainerId): LiveContainer | undefined {
    return this.#byId.get(id);
  }

  ids(): ContainerId[] {
    return [...this.#byId.keys()];
  }

  add(container: LiveContainer): void {
    this.#byId.set(container.id, container);
    this.#onLaunch(container);
  }

  delete(id: ContainerId): void {
    this.#byId.delete(id);
  }
}
