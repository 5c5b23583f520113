import type { Endpoint } from './endpoint.ts';
import type { GuestInterface, GuestRoute } from './guestInterface.ts';
import { formatIp, formatPrefix, networkOf, parsePrefix } from './ipAddress.ts';
import type { NetworkDefinition } from './networkDefinition.ts';

/**
 * What the guest makes of its place in a network. It believes the others on its IPv4 link, where the host answers for
 * them; of IPv6, where nobody can, it believes only the gateway there.
 */
export function attachedInterface(
  { mac, ipv4, ipv6 }: Endpoint,
  network: NetworkDefinition,
  name: string,
): GuestInterface {
  const addresses: string[] = [];
  const routes: GuestRoute[] = [];
  if (ipv4 !== undefined) {
    const gateway = parsePrefix(network.gateway4, 'the gateway');
    addresses.push(`${ipv4}/${gateway.length}`);
    if (!network.internal) routes.push({ destination: '0.0.0.0/0', gateway: formatIp(gateway.base) });
  }
  if (ipv6 !== undefined && network.gateway6 !== undefined) {
    const gateway = parsePrefix(network.gateway6, 'the gateway');
    addresses.push(`${ipv6}/128`);
    const destination = network.internal ? formatPrefix(networkOf(gateway)) : '::/0';
    routes.push({ destination, gateway: formatIp(gateway.base), onLink: true });
  }
  return { name, mac, mtu: network.mtu, addresses, routes, neighbours: [] };
}
