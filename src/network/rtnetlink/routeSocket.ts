import { NetlinkSocket } from '../../sys/netlink.ts';
import type { NetNamespace } from '../../sys/netNamespace.ts';

const NETLINK_ROUTE = 0;

/** Message types of rtnetlink(7). */
export const RTM = {
  newLink: 16,
  delLink: 17,
  getLink: 18,
  setLink: 19,
  newAddress: 20,
  delAddress: 21,
  getAddress: 22,
  newRoute: 24,
  getRoute: 26,
  newNeighbour: 28,
  getNeighbour: 30,
  newQdisc: 36,
  delQdisc: 37,
  newFilter: 44,
} as const;

export const AF = { unspecified: 0, ipv4: 2, bridge: 7, ipv6: 10 } as const;

/** An rtnetlink(7) socket of a namespace. */
export function openRouteSocket(netns: NetNamespace): NetlinkSocket {
  return netns.run(() => new NetlinkSocket(NETLINK_ROUTE));
}
