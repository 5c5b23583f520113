import { readFileSync, writeFileSync } from 'node:fs';
import { errnoOf, HrunError, messageOf } from '../base/errors.ts';
import type { NetlinkSocket } from '../sys/netlink.ts';
import type { NetNamespace } from '../sys/netNamespace.ts';
import type { Endpoint } from './endpoint.ts';
import {
  contains,
  formatPrefix,
  type IpPrefix,
  networkOf,
  overlaps,
  parseIp,
  parsePrefix,
} from './ipAddress.ts';
import { macOf } from './macAddress.ts';
import type { NetworkDefinition } from './networkDefinition.ts';
import { addAddress, listAddresses } from './rtnetlink/addresses.ts';
import { addBridge, changeLink, deleteLink, findLink, type Link, listLinks } from './rtnetlink/links.ts';
import { openRouteSocket } from './rtnetlink/routeSocket.ts';
import { addHostRoute, addLoopbackRoute, addNeighbour, listRoutes } from './rtnetlink/routes.ts';

const bridgeSettings6 = { accept_ra: '0', autoconf: '0', accept_dad: '0' } as const;
const tapSettings4 = {
  // the guest believes the others on its link: the host answers for them, and routes
  proxy_arp: '1',
  send_redirects: '0',
  accept_redirects: '0',
  // published ports are reached by 127.0.0.1 too; guests themselves are kept from it by the rules
  route_localnet: '1',
} as const;
const tapSettings6 = { ...bridgeSettings6, accept_redirects: '0', forwarding: '1' } as const;
const forwarding4 = '/proc/sys/net/ipv4/ip_forward';
const forwarding6 = '/proc/sys/net/ipv6/conf/all/forwarding';

/** Settings of a namespace that were changed, with what they were. */
export type ChangedSettings = Readonly<Record<string, string>>;

/**
 * Makes sure that the bridge of a network is there, with its addresses and up.
 * @param owner marks the bridge as ours; one that bears another mark is not touched
 * @throws HrunError NETWORK_FAILED when its name or its range is in use, naming by whom
 */
export function ensureBridge(netns: NetNamespace, network: NetworkDefinition, owner: string): void {
  const name = network.bridge;
  using socket = openRouteSocket(netns);
  const known = findLink(socket, name);
  if (known !== undefined && (known.kind !== 'bridge' || known.alias !== owner)) {
    throw new HrunError('NETWORK_FAILED', `the interface ${name} exists and is not a bridge of this hrun`, {
      hint: 'remove it, or choose another name with "bridge" in the configuration',
    });
  }
  const prefixes = rangesOf(network);
  if (known === undefined) refuseOverlap(socket, network);
  try {
    if (known === undefined) addBridge(socket, name, macOf(`${owner}:${network.id}`));
    const { index } = findLink(socket, name) ?? missing(name);
    if (known === undefined) changeLink(socket, index, { alias: owner }, name);
    const hasIPv6 = netns.run(() => setUp(name));
    for (const prefix of prefixes) {
      if (prefix.base.family === 6 && !hasIPv6) continue;
      ignoring(['EEXIST'], () => addAddress(socket, index, prefix));
    }
    changeLink(socket, index, { up: true, mtu: network.mtu }, name);
  } catch (cause) {
    if (known === undefined) removeBridge(netns, name, owner);
    if (cause instanceof HrunError) throw cause;
    throw new HrunError('NETWORK_FAILED', `bridge ${name}: ${messageOf(cause)}`, { cause });
  }
}

/** Nothing happens to a bridge that is not there, or not ours. */
export function removeBridge(netns: NetNamespace, name: string, owner: string): void {
  using socket = openRouteSocket(netns);
  const link = findLink(socket, name);
  if (link?.kind !== 'bridge' || link.alias !== owner) return;
  ignoring(['ENODEV'], () => deleteLink(socket, link.index, name));
}

/** Names of the bridges of this owner in a namespace. */
export function ownBridges(netns: NetNamespace, owner: string): string[] {
  using socket = openRouteSocket(netns);
  return listLinks(socket)
    .filter(({ kind, alias }) => kind === 'bridge' && alias === owner)
    .map(({ name }) => name);
}

/** Whether a namespace has IPv6 at all. */
export function hasIPv6(netns: NetNamespace): boolean {
  return netns.run(() => read('/proc/sys/net/ipv6/conf/all/disable_ipv6') === '0');
}

/**
 * Makes a tap the way to one guest and to nothing else. It is no port of the bridge, which only bears the gateway's
 * addresses: what guests send each other is routed like everything else, so that the same rules hold for it.
 */
export function addPort(
  netns: NetNamespace,
  { tap, mac, ipv4, ipv6 }: Pick<Endpoint, 'tap' | 'mac' | 'ipv4' | 'ipv6'>,
  network: NetworkDefinition,
): void {
  using socket = openRouteSocket(netns);
  const { index } = findLink(socket, tap) ?? missing(tap);
  netns.run(() => {
    write('ipv4/conf', tap, tapSettings4);
    // at once instead of after up to a second
    write('ipv4/neigh', tap, { proxy_delay: '0' });
    if (ipv6 !== undefined) write('ipv6/conf', tap, tapSettings6);
    else if (read(`/proc/sys/net/ipv6/conf/${tap}/disable_ipv6`) === '0')
      write('ipv6/conf', tap, { disable_ipv6: '1' });
  });
  changeLink(socket, index, { mtu: network.mtu, up: true }, tap);
  const gateways = rangesOf(network).map(({ base }) => base);
  for (const address of [ipv4, ipv6].flatMap((text) =>
    text === undefined ? [] : parseIp(text, 'the address'),
  )) {
    const gateway = gateways.find(({ family }) => family === address.family);
    // IPv6 answers only for addresses of the very interface
    if (gateway?.family === 6) {
      addAddress(socket, index, { base: gateway, length: 128 });
      addLoopbackRoute(socket, index);
    }
    addHostRoute(socket, index, address, gateway);
    addNeighbour(socket, { index, address, mac });
  }
}

/** Removes an interface at once, also while a VMM still holds it. One that is gone is fine. */
export function removePort(netns: NetNamespace, tap: string): void {
  using socket = openRouteSocket(netns);
  const link = findLink(socket, tap);
  if (link !== undefined) ignoring(['ENODEV'], () => deleteLink(socket, link.index, tap));
}

/** Has the namespace pass packets on between its interfaces. Answers what it changed. */
export function enableForwarding(netns: NetNamespace, families: ReadonlySet<4 | 6>): ChangedSettings {
  return netns.run(() => {
    const changed: Record<string, string> = {};
    const set = (file: string, value: string) => {
      const before = read(file);
      if (before === undefined || before === value) return;
      writeFileSync(file, value);
      changed[file] = before;
    };
    if (families.has(6) && read(forwarding6) === '0') {
      // a router does not listen to router advertisements, unless told to
      for (const name of interfacesThatListen()) set(acceptRa(name), '2');
    }
    if (families.has(4)) set(forwarding4, '1');
    if (families.has(6)) set(forwarding6, '1');
    return changed;
  });
}

/** Undoes `enableForwarding`, except what somebody else has changed since. */
export function restoreSettings(netns: NetNamespace, changed: ChangedSettings): void {
  netns.run(() => {
    for (const [file, before] of Object.entries(changed).toReversed()) {
      if (read(file) !== undefined) writeFileSync(file, before);
    }
  });
}

/** Routes of a namespace that a range would overlap with. */
export function overlappingRoute(netns: NetNamespace, prefix: IpPrefix): string | undefined {
  using socket = openRouteSocket(netns);
  return overlapIn(socket, prefix, []);
}

function rangesOf({ gateway4, gateway6 }: NetworkDefinition): IpPrefix[] {
  return [gateway4, ...(gateway6 === undefined ? [] : [gateway6])].map((text) =>
    parsePrefix(text, 'the gateway'),
  );
}

function refuseOverlap(socket: NetlinkSocket, network: NetworkDefinition): void {
  for (const prefix of rangesOf(network)) {
    const by = overlapIn(socket, prefix, [network.bridge]);
    if (by === undefined) continue;
    throw new HrunError(
      'NETWORK_FAILED',
      `network ${network.name} cannot have ${formatPrefix(networkOf(prefix))}: ${by} overlaps it`,
      { hint: 'choose another range: "bridgeSubnet" in the configuration, or network create --subnet' },
    );
  }
}

function overlapIn(socket: NetlinkSocket, prefix: IpPrefix, except: readonly string[]): string | undefined {
  const links = new Map(listLinks(socket).map((link) => [link.index, link.name]));
  const nameOf = (index: number) => links.get(index) ?? `interface ${index}`;
  const route = listRoutes(socket).find(
    ({ destination, index }) =>
      destination.length > 0 && !except.includes(nameOf(index)) && overlaps(destination, prefix),
  );
  if (route !== undefined) {
    return `the route to ${formatPrefix(networkOf(route.destination))} on ${nameOf(route.index)}`;
  }
  const address = listAddresses(socket).find(
    (found) => !except.includes(nameOf(found.index)) && contains(prefix, found.prefix.base),
  );
  return address && `the address ${formatPrefix(address.prefix)} of ${nameOf(address.index)}`;
}

/** Answers whether the kernel has IPv6 on the bridge. */
function setUp(name: string): boolean {
  if (read(`/proc/sys/net/ipv6/conf/${name}/disable_ipv6`) !== '0') return false;
  write('ipv6/conf', name, bridgeSettings6);
  return true;
}

function write(directory: string, name: string, settings: Readonly<Record<string, string>>): void {
  for (const [key, value] of Object.entries(settings)) {
    writeFileSync(`/proc/sys/net/${directory}/${name}/${key}`, value);
  }
}

function interfacesThatListen(): string[] {
  const names = read('/proc/net/dev')?.match(/^\s*[^\s:]+(?=:)/gm) ?? [];
  return names.map((name) => name.trim()).filter((name) => read(acceptRa(name)) === '1');
}

function acceptRa(name: string): string {
  return `/proc/sys/net/ipv6/conf/${name}/accept_ra`;
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function missing(name: string): Link {
  throw new HrunError('NETWORK_FAILED', `the interface ${name} is gone`);
}

function ignoring(codes: readonly string[], work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!codes.includes(errnoOf(error) ?? '')) throw error;
  }
}
