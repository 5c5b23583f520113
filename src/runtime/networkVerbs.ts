import type { ContainerId } from '../base/ids.ts';
import type { PortWish } from '../network/containerNetwork.ts';
import type { Endpoint, PublishedPort } from '../network/endpoint.ts';
import type { NetworkDefinition } from '../network/networkDefinition.ts';
import type { NetworkRequest } from '../network/networkStore.ts';
import type { Refusal } from '../network/refusals.ts';
import type { NetworkCaller } from './networkCaller.ts';

/** Networks are named as users name them (name, id, id prefix): an unknown one is NOT_FOUND. */
export interface NetworkEngine {
  create(request: NetworkRequest, caller: Pick<NetworkCaller, 'openNetns'>): Promise<NetworkDefinition>;
  list(): readonly NetworkDefinition[];
  inspect(network: string): NetworkDetails;
  /** @throws HrunError NETWORK_IN_USE while running containers are connected to it */
  remove(network: string): Promise<void>;
  /** Removes those of the user that no container is connected to; answers their names. */
  prune(): Promise<readonly string[]>;
  /** Connects a container, now if it runs. @throws HrunError WRONG_STATE when it is in another network already */
  connect(request: ConnectRequest, caller: NetworkCaller, signal: AbortSignal): Promise<void>;
  disconnect(network: string, container: string, signal: AbortSignal): Promise<void>;
  /** Publishes ports of a running container, and keeps them for its next start. */
  publish(
    container: string,
    wishes: readonly PortWish[],
    signal: AbortSignal,
  ): Promise<readonly PublishedPort[]>;
  /** @throws HrunError NOT_FOUND when no such port is published */
  unpublish(container: string, port: string, signal: AbortSignal): Promise<void>;
  /** What guests of a network, or of all, were refused within the last hour, the latest first. */
  refusals(network: string | undefined): Promise<readonly GuestRefusal[]>;
}

export interface ConnectRequest {
  readonly network: string;
  readonly container: string;
  readonly aliases: readonly string[];
  readonly ipv4?: string;
  readonly ipv6?: string;
}

export interface NetworkDetails {
  readonly network: NetworkDefinition;
  readonly members: readonly {
    readonly containerId: ContainerId;
    readonly containerName: string;
    readonly endpoint: Endpoint;
  }[];
}

export interface GuestRefusal extends Refusal {
  readonly container: string;
  readonly network: string;
}
