import type { HrunError } from '../base/errors.ts';
import type { GuestVm } from '../pool/guestVm.ts';

/** What a container has of the microVM that its processes run in. */
export interface Tenancy {
  /** Others that live in it, where it is this container's own. */
  readonly members: Members;
  /** It is another's: it goes on after this container. */
  readonly joined: boolean;
  /** Fires when what the guest says of the container counts no more. */
  readonly over: AbortSignal;
  /** Why the container was made to end; empty: nobody did. */
  readonly endedBecause: string;
  /** Ends the container at once, whatever its guest says. */
  kill(): Promise<void>;
  /** Gives back what it has of the microVM, or the whole of it. Never rejects; the second time nothing happens. */
  leave(): Promise<void>;
}

/** Containers that live in the microVM of another one. */
export class Members {
  readonly #over = new AbortController();
  readonly #inside = new Set<Promise<void>>();

  /** Fires, with the reason, when the microVM is about to go. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  get count(): number {
    return this.#inside.size;
  }

  /** To be held for as long as there is something of a container in the microVM. @throws the reason of `over` */
  enter(): Disposable {
    this.over.throwIfAborted();
    const left = Promise.withResolvers<void>();
    this.#inside.add(left.promise);
    return {
      [Symbol.dispose]: () => {
        this.#inside.delete(left.promise);
        left.resolve();
      },
    };
  }

  /** Tells them that the microVM is about to go, and returns when all have left. */
  async dismiss(why: HrunError): Promise<void> {
    this.#over.abort(why);
    while (this.#inside.size > 0) await Promise.all(this.#inside);
  }
}

/** Of a container with a microVM of its own, which ends with it. */
export function ownTenancy(guest: GuestVm): Tenancy {
  return {
    members: new Members(),
    joined: false,
    over: new AbortController().signal,
    endedBecause: '',
    kill: () => guest.vm.kill(),
    leave: () => guest[Symbol.asyncDispose](),
  };
}
