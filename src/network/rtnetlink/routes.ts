import {
  type Attribute,
  attributeBytes,
  type NetlinkSocket,
  netlinkFlags,
  readAttributes,
} from '../../sys/netlink.ts';
import { formatIp, type IpAddress, type IpPrefix, ipBytes, ipFromBytes } from '../ipAddress.ts';
import { formatMac, macBytes } from '../macAddress.ts';
import { AF, RTM } from './routeSocket.ts';

const RTA = { destination: 1, outInterface: 4, gateway: 5, priority: 6, source: 7, table: 15 } as const;
const rtmsgBytes = 12;
const ndmsgBytes = 12;
const RT_TABLE_MAIN = 254;
const RT_TABLE_LOCAL = 255;
const RTN_UNICAST = 1;
const RTN_LOCAL = 2;
/** Behind the kernel's own, which have 0. */
const lastMetric = 4096;
const RTPROT_STATIC = 4;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RTNH_F_ONLINK = 4;
const NDA_DESTINATION = 1;
const NDA_LINK_ADDRESS = 2;
const NUD_PERMANENT = 0x80;

/** An unicast route of the main table. */
export interface Route {
  readonly index: number;
  /** Length 0: the default route. */
  readonly destination: IpPrefix;
  readonly gateway: IpAddress | undefined;
  readonly source: IpAddress | undefined;
  readonly metric: number;
  /** The gateway is on the link although no address of the interface says so. */
  readonly onLink: boolean;
  /** rtnetlink's RTPROT_…: 2 came with an address. */
  readonly protocol: number;
}

export function listRoutes(socket: NetlinkSocket): Route[] {
  const request = Buffer.alloc(rtmsgBytes);
  return socket
    .request(RTM.getRoute, netlinkFlags.dump, request, 'routes')
    .filter(({ type }) => type === RTM.newRoute)
    .flatMap(({ payload }) => readRoute(payload) ?? []);
}

/** A neighbour that was entered by hand. */
export interface Neighbour {
  readonly index: number;
  readonly address: IpAddress;
  readonly mac: string;
}

/** Only the permanent ones: all others find themselves. */
export function listNeighbours(socket: NetlinkSocket): Neighbour[] {
  const request = Buffer.alloc(ndmsgBytes);
  return socket
    .request(RTM.getNeighbour, netlinkFlags.dump, request, 'neighbours')
    .filter(({ type, payload }) => type === RTM.newNeighbour && payload.readUInt16LE(8) === NUD_PERMANENT)
    .flatMap(({ payload }) => {
      const attributes = readAttributes(payload.subarray(ndmsgBytes));
      const [destination, mac] = [attributes.get(NDA_DESTINATION), attributes.get(NDA_LINK_ADDRESS)];
      const address = destination === undefined ? undefined : ipFromBytes(destination);
      if (address === undefined || mac?.length !== 6) return [];
      return [{ index: payload.readInt32LE(4), address, mac: formatMac(mac) }];
    });
}

/**
 * A route of its own for one address, straight onto the link.
 * @param source of the packets that this host itself sends there
 * @throws the system error: EEXIST
 */
export function addHostRoute(
  socket: NetlinkSocket,
  index: number,
  address: IpAddress,
  source: IpAddress | undefined,
): void {
  const message = Buffer.alloc(rtmsgBytes);
  message.writeUInt8(address.family === 4 ? AF.ipv4 : AF.ipv6, 0);
  message.writeUInt8(address.family === 4 ? 32 : 128, 1);
  message.writeUInt8(RT_TABLE_MAIN, 4);
  message.writeUInt8(RTPROT_STATIC, 5);
  message.writeUInt8(address.family === 4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE, 6);
  message.writeUInt8(RTN_UNICAST, 7);
  const attributes: Attribute[] = [
    [RTA.destination, ipBytes(address)],
    [RTA.outInterface, index],
  ];
  if (source !== undefined) attributes.push([RTA.source, ipBytes(source)]);
  const body = Buffer.concat([message, attributeBytes(attributes)]);
  const flags = netlinkFlags.create | netlinkFlags.exclusive;
  socket.request(RTM.newRoute, flags, body, `route to ${formatIp(address)}`);
}

/**
 * Has the kernel take what comes in on a link for ::1, as it does on loopback: of IPv6 there is no `route_localnet`. No
 * packet gets that far that was sent to ::1; only one that has become so, the answer in a connection from there that was
 * led on. The host's own way to ::1 stays the better one.
 */
export function addLoopbackRoute(socket: NetlinkSocket, index: number): void {
  const message = Buffer.alloc(rtmsgBytes);
  message.writeUInt8(AF.ipv6, 0);
  message.writeUInt8(128, 1);
  message.writeUInt8(RT_TABLE_LOCAL, 4);
  message.writeUInt8(RTPROT_STATIC, 5);
  message.writeUInt8(RT_SCOPE_UNIVERSE, 6);
  message.writeUInt8(RTN_LOCAL, 7);
  const body = Buffer.concat([
    message,
    attributeBytes([
      [RTA.destination, ipBytes({ family: 6, value: 1n })],
      [RTA.outInterface, index],
      [RTA.priority, lastMetric],
    ]),
  ]);
  // not exclusively: there is one on each link
  socket.request(RTM.newRoute, netlinkFlags.create, body, 'route to ::1');
}

/** Enters by hand which MAC address an address of the link has. */
export function addNeighbour(socket: NetlinkSocket, { index, address, mac }: Neighbour): void {
  const message = Buffer.alloc(ndmsgBytes);
  message.writeUInt8(address.family === 4 ? AF.ipv4 : AF.ipv6, 0);
  message.writeInt32LE(index, 4);
  message.writeUInt16LE(NUD_PERMANENT, 8);
  const attributes: Attribute[] = [
    [NDA_DESTINATION, ipBytes(address)],
    [NDA_LINK_ADDRESS, macBytes(mac)],
  ];
  const body = Buffer.concat([message, attributeBytes(attributes)]);
  socket.request(RTM.newNeighbour, netlinkFlags.create | netlinkFlags.replace, body, formatIp(address));
}

function readRoute(payload: Buffer): Route | undefined {
  const attributes = readAttributes(payload.subarray(rtmsgBytes));
  const table = attributes.get(RTA.table)?.readUInt32LE(0) ?? payload.readUInt8(4);
  const index = attributes.get(RTA.outInterface)?.readUInt32LE(0);
  // multipath routes have no interface of their own
  if (table !== RT_TABLE_MAIN || payload.readUInt8(7) !== RTN_UNICAST || index === undefined)
    return undefined;
  const family = payload.readUInt8(0) === AF.ipv4 ? 4 : 6;
  const read = (type: number) => {
    const bytes = attributes.get(type);
    return bytes === undefined ? undefined : ipFromBytes(bytes);
  };
  return {
    index,
    destination: {
      base: read(RTA.destination) ?? { family, value: 0n },
      length: payload.readUInt8(1),
    },
    gateway: read(RTA.gateway),
    source: read(RTA.source),
    metric: attributes.get(RTA.priority)?.readUInt32LE(0) ?? 0,
    onLink: (payload.readUInt32LE(8) & RTNH_F_ONLINK) !== 0,
    protocol: payload.readUInt8(5),
  };
}
