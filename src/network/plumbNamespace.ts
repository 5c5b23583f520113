import { errnoOf, HrunError, messageOf } from '../base/errors.ts';
import type { NetlinkSocket } from '../sys/netlink.ts';
import type { NetNamespace } from '../sys/netNamespace.ts';
import { openTap, type Tap } from '../sys/tap.ts';
import type { GuestInterface, GuestRoute } from './guestInterface.ts';
import { formatIp, formatPrefix } from './ipAddress.ts';
import { listAddresses } from './rtnetlink/addresses.ts';
import { changeLink, findLink, type Link, listLinks } from './rtnetlink/links.ts';
import { openRouteSocket } from './rtnetlink/routeSocket.ts';
import { listNeighbours, listRoutes, type Route } from './rtnetlink/routes.ts';
import { redirectIngress, removeIngress } from './rtnetlink/traffic.ts';

/** RTPROT_KERNEL: the kernel makes these by itself where the address is set. */
const routeOfAddress = 2;
const defaultMetric6 = 1024;
const tapPrefix = 'hrun-tap';

/** One interface of a namespace, bound to a tap. */
export interface PlumbedNic {
  /** For `MicroVm.plugNic`; close it once plugged: the VMM's copy keeps it alive, and its end takes it away. */
  readonly tap: Tap;
  /** What the guest is to make of the device, for the agent's ConfigureNetwork. */
  readonly guest: GuestInterface;
}

/** Disposing undoes all of it, taps included. */
export interface PlumbedNamespace extends Disposable {
  readonly nics: readonly PlumbedNic[];
}

/**
 * Hands the interfaces of a given network namespace over to a microVM: for each that is up (all but loopback) a tap is
 * made beside it, and every frame that one of the two receives is sent out of the other. The interface keeps its
 * addresses, as managers expect; nothing in the namespace hears what arrives for them.
 *
 *     using netns = openNetNamespace(`/proc/${standInPid}/ns/net`);
 *     using plumbed = plumbNamespace(netns);
 *     for (const [slot, { tap }] of plumbed.nics.entries()) await vm.plugNic(slot, tap.fd, signal);
 *     await configureGuestNetwork(client, plumbed.nics.map(({ guest }) => guest), signal);
 *     const names = plumbed.nics.map(({ guest }) => guest.name);   // into the state file, and at the end, by any daemon:
 *     unplumbNamespace(netns, names);
 *
 * The VM needs as many `nicSlots` as there are interfaces (`plumbableInterfaces` counts them).
 * @throws HrunError NETWORK_FAILED naming the interface; nothing is left behind then
 */
export function plumbNamespace(netns: NetNamespace): PlumbedNamespace {
  using undo = new DisposableStack();
  const socket = undo.use(openRouteSocket(netns));
  const guests = describeInterfaces(socket);
  const nics = guests.map(({ link, guest }) => {
    try {
      const tap = undo.use(netns.run(() => openTap(tapNameOf(link))));
      bind(socket, link, tap, undo);
      return { tap, guest };
    } catch (cause) {
      throw new HrunError('NETWORK_FAILED', `interface ${link.name}: ${messageOf(cause)}`, { cause });
    }
  });
  const owned = undo.move();
  return { nics, [Symbol.dispose]: () => owned.dispose() };
}

/** How many interfaces `plumbNamespace` would hand over now. */
export function plumbableInterfaces(netns: NetNamespace): number {
  using socket = openRouteSocket(netns);
  return listLinks(socket).filter(isPlumbable).length;
}

/**
 * Frees interfaces of a namespace from what `plumbNamespace` bound them to, also when another process did it. Taps end
 * with the VMM that holds them. An interface that is gone, or was not bound, is fine.
 */
export function unplumbNamespace(netns: NetNamespace, interfaces: readonly string[]): void {
  using socket = openRouteSocket(netns);
  for (const link of listLinks(socket)) {
    if (interfaces.includes(link.name)) unbind(socket, link);
  }
}

function bind(socket: NetlinkSocket, link: Link, tap: Tap, undo: DisposableStack): void {
  const tapLink = findLink(socket, tap.name);
  if (tapLink === undefined) throw new Error(`${tap.name} is gone`);
  changeLink(socket, tapLink.index, { mtu: link.mtu, up: true }, tap.name);
  redirectIngress(socket, link.index, tapLink.index, link.name);
  undo.defer(() => unbind(socket, link));
  redirectIngress(socket, tapLink.index, link.index, tap.name);
}

function unbind(socket: NetlinkSocket, link: Link): void {
  try {
    removeIngress(socket, link.index, link.name);
  } catch (error) {
    // not bound, or gone with the namespace's owner
    if (!['EINVAL', 'ENOENT', 'ENODEV'].includes(errnoOf(error) ?? '')) throw error;
  }
}

/** Tunnels that a new namespace is born with have no MAC address, and are down. */
function isPlumbable(link: Link): boolean {
  return link.up && !link.loopback && link.mac !== undefined && !isOurTap(link);
}

function isOurTap({ kind, name }: Link): boolean {
  return kind === 'tun' && name.startsWith(tapPrefix);
}

function describeInterfaces(
  socket: NetlinkSocket,
): { readonly link: Link; readonly guest: GuestInterface }[] {
  const [addresses, routes] = [listAddresses(socket), listRoutes(socket)];
  const neighbours = listNeighbours(socket);
  return listLinks(socket)
    .filter(isPlumbable)
    .map((link) => ({
      link,
      guest: {
        name: link.name,
        mac: link.mac ?? '',
        mtu: link.mtu,
        // the guest makes a link-local one of its own, from the same MAC address
        addresses: addresses
          .filter(
            ({ index, linkLocal, prefix }) =>
              index === link.index && !(linkLocal && prefix.base.family === 6),
          )
          .map(({ prefix }) => formatPrefix(prefix)),
        routes: inOrder(routes.filter(({ index }) => index === link.index)).map(guestRoute),
        neighbours: neighbours
          .filter(({ index }) => index === link.index)
          .map(({ address, mac }) => ({ address: formatIp(address), mac })),
      },
    }));
}

/** Those without a gateway first, which may lead to the gateways of the others. */
function inOrder(routes: readonly Route[]): Route[] {
  const given = routes.filter(({ protocol }) => protocol !== routeOfAddress);
  return [
    ...given.filter(({ gateway }) => gateway === undefined),
    ...given.filter(({ gateway }) => gateway !== undefined),
  ];
}

function guestRoute({ destination, gateway, source, metric, onLink }: Route): GuestRoute {
  return {
    destination: formatPrefix(destination),
    ...(gateway !== undefined && { gateway: formatIp(gateway) }),
    ...(source !== undefined && { source: formatIp(source) }),
    // what IPv6 routes have when nobody chose
    ...(metric !== 0 && metric !== defaultMetric6 && { metric }),
    ...(onLink && { onLink }),
  };
}

function tapNameOf(link: Link): string {
  return `${tapPrefix}${link.index}`;
}
