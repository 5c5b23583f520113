import { HrunError } from '../base/errors.ts';
import type { Tap } from '../sys/tap.ts';
import type { PortWish } from './containerNetwork.ts';
import type { Endpoint } from './endpoint.ts';
import type { NetworkDefinition } from './networkDefinition.ts';

/** What a guest wants of a network. */
export interface AttachRequest {
  readonly network: NetworkDefinition;
  /** Id of the container. */
  readonly container: string;
  /** Which of the microVM's network devices it is to be. */
  readonly slot: number;
  readonly mac?: string;
  readonly ipv4?: string;
  readonly ipv6?: string;
  /** Lower case, its own first. */
  readonly names: readonly string[];
  readonly ports: readonly PortWish[];
  readonly egress?: Endpoint['egress'];
  readonly rateBytes?: number;
  readonly upstream: readonly string[];
}

/** A guest's place in a network. Disposing gives it back. */
export interface Attached extends AsyncDisposable {
  readonly endpoint: Endpoint;
  readonly network: NetworkDefinition;
}

export interface NewlyAttached extends Attached {
  /** For `MicroVm.plugNic`; to be closed once plugged. */
  readonly tap: Tap;
}

/** Of a network without IPv6: who asks the host by IPv6 is refused, instead of waiting for an answer. */
export function ipv4Only(wish: PortWish, { name }: NetworkDefinition): PortWish {
  if (wish.hostIp === '') return { ...wish, hostIp: '0.0.0.0' };
  if (!wish.hostIp.includes(':')) return wish;
  throw new HrunError(
    'INVALID_ARGUMENT',
    `port ${wish.guestPort} cannot be published at [${wish.hostIp}]: network ${name} has no IPv6`,
    { hint: 'create the network with --ipv6' },
  );
}
