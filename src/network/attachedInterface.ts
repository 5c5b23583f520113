import type { Endpoint } from './endpoint.ts';
import type { GuestInterface, GuestRoute } from './guestInterface.ts';
import { formatIp, formatPrefix, networkOf, parsePrefix } from './ipAddress.ts';
import type { NetworkDefinition } from './networkDefinition.ts';

/** A place in a network, whoever attached it. */
export interface AttachedPlace {
  readonly endpoint: Endpoint;
  readonly network: NetworkDefinition;
}

/**
 * The place of a guest that its default routes, its name server and its published ports belong to: the first that leads
 * anywhere.
 */
export function mainPlace<T extends { readonly network: Pick<NetworkDefinition, 'internal'> }>(
  places: readonly T[],
): T | undefined {
  return places.find(({ network }) => !network.internal) ?? places[0];
}

/** What a guest makes of its places in networks. */
export function guestInterfaces(places: readonly AttachedPlace[]): GuestInterface[] {
  const outer = places.filter(({ network }) => !network.internal);
  const default4 = outer.find(({ endpoint }) => endpoint.ipv4 !== undefined);
  const default6 = outer.find(({ endpoint }) => endpoint.ipv6 !== undefined);
  return places.map((place) => guestInterface(place, place === default4, place === default6));
}

/** A device that was in a network and is in none any more. */
export function emptyInterface({ endpoint, network }: AttachedPlace): GuestInterface {
  return { ...guestInterface({ endpoint, network }, false, false), addresses: [], routes: [] };
}

/**
 * It believes the others on its IPv4 link, where the host answers for them; of IPv6, where nobody can, it believes only
 * the gateway there.
 */
function guestInterface(
  { endpoint: { mac, ipv4, ipv6, slot }, network }: AttachedPlace,
  default4: boolean,
  default6: boolean,
): GuestInterface {
  const addresses: string[] = [];
  const routes: GuestRoute[] = [];
  if (ipv4 !== undefined) {
    const gateway = parsePrefix(network.gateway4, 'the gateway');
    addresses.push(`${ipv4}/${gateway.length}`);
    if (default4) routes.push({ destination: '0.0.0.0/0', gateway: formatIp(gateway.base) });
  }
  if (ipv6 !== undefined && network.gateway6 !== undefined) {
    const gateway = parsePrefix(network.gateway6, 'the gateway');
    addresses.push(`${ipv6}/128`);
    const destination = default6 ? '::/0' : formatPrefix(networkOf(gateway));
    routes.push({ destination, gateway: formatIp(gateway.base), onLink: true });
  }
  return { name: `eth${slot}`, slot, mac, mtu: network.mtu, addresses, routes, neighbours: [] };
}
