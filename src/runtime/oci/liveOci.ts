import type { ContainerId } from '../../base/ids.ts';
import type { GuestVm } from '../../pool/guestVm.ts';
import type { ShareHost } from '../../pool/shareHost.ts';
import type { GuestProcess } from '../guestProcess.ts';
import type { StandInLink } from './standInLink.ts';

/** A microVM and the containers in it. It ends with the container that it was started for. */
export interface Sandbox {
  readonly owner: ContainerId;
  readonly guest: GuestVm;
  /** Of a microVM that was there before its container; otherwise the container's own stand-in serves. */
  readonly host: ShareHost | undefined;
  readonly members: Set<ContainerId>;
  /** Kills the microVM and removes what was made for it. */
  end(): Promise<void>;
}

/** One more process of a container that has a stand-in of its own. */
export interface LiveExec {
  readonly processId: string;
  readonly link: StandInLink;
  /** Settles with its code once the stand-in may go; never rejects. */
  readonly ended: Promise<number>;
}

/** A container that was created and has not stopped. */
export interface LiveOci {
  readonly id: ContainerId;
  readonly sandbox: Sandbox;
  readonly link: StandInLink;
  readonly init: GuestProcess;
  readonly execs: Map<string, LiveExec>;
  /** Settles with the exit code once the end is on disk; never rejects. */
  readonly ended: Promise<number>;
  /** Settles once the stand-in is gone too; never rejects. */
  readonly finished: Promise<void>;
  /** Aborted when its end begins. */
  readonly over: AbortSignal;
  /** Ends the container at once, whatever its guest says. `code` is told as its exit code. */
  tearDown(code: number, why: string): void;
}

/** The containers of managers that live under this daemon. */
export class LiveOciContainers {
  readonly #byId = new Map<ContainerId, LiveOci>();

  get(id: ContainerId): LiveOci | undefined {
    return this.#byId.get(id);
  }

  list(): LiveOci[] {
    return [...this.#byId.values()];
  }

  add(container: LiveOci): void {
    this.#byId.set(container.id, container);
  }

  delete(id: ContainerId): void {
    this.#byId.delete(id);
  }
}
