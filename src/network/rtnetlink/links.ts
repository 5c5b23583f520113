import {
  type Attribute,
  attributeBytes,
  cString,
  type NetlinkSocket,
  netlinkFlags,
  readAttributes,
} from '../../sys/netlink.ts';
import { formatMac, macBytes } from '../macAddress.ts';
import { RTM } from './routeSocket.ts';

const IFLA = {
  address: 1,
  name: 3,
  mtu: 4,
  linkInfo: 18,
  alias: 20,
} as const;
const IFLA_INFO_KIND = 1;
const IFF_UP = 1;
const IFF_LOOPBACK = 8;
const ifinfomsgBytes = 16;

export interface Link {
  readonly index: number;
  readonly name: string;
  /** Undefined where there is none (a tunnel). */
  readonly mac: string | undefined;
  readonly mtu: number;
  readonly up: boolean;
  readonly loopback: boolean;
  /** `bridge`, `veth`, `tun`, … as far as the kernel says. */
  readonly kind: string | undefined;
  readonly alias: string | undefined;
}

export interface LinkChange {
  readonly up?: boolean;
  readonly mac?: string;
  readonly mtu?: number;
  readonly alias?: string;
}

export function listLinks(socket: NetlinkSocket): Link[] {
  const answers = socket.request(RTM.getLink, netlinkFlags.dump, ifinfomsg({}), 'interfaces');
  return answers.filter(({ type }) => type === RTM.newLink).map(({ payload }) => readLink(payload));
}

/** Undefined when there is none of that name. */
export function findLink(socket: NetlinkSocket, name: string): Link | undefined {
  return listLinks(socket).find((link) => link.name === name);
}

/** @throws the system error: EEXIST */
export function addBridge(socket: NetlinkSocket, name: string, mac: string): void {
  addLink(socket, name, [
    [IFLA.address, macBytes(mac)],
    [IFLA.linkInfo, { nested: [[IFLA_INFO_KIND, 'bridge']] }],
  ]);
}

export function changeLink(socket: NetlinkSocket, index: number, change: LinkChange, subject: string): void {
  const attributes: Attribute[] = [];
  if (change.mac !== undefined) attributes.push([IFLA.address, macBytes(change.mac)]);
  if (change.mtu !== undefined) attributes.push([IFLA.mtu, change.mtu]);
  if (change.alias !== undefined) attributes.push([IFLA.alias, change.alias]);
  const flags = change.up === undefined ? {} : { flags: change.up ? IFF_UP : 0, changed: IFF_UP };
  const body = Buffer.concat([ifinfomsg({ index, ...flags }), attributeBytes(attributes)]);
  socket.request(RTM.newLink, 0, body, subject);
}

export function deleteLink(socket: NetlinkSocket, index: number, subject: string): void {
  socket.request(RTM.delLink, 0, ifinfomsg({ index }), subject);
}

function addLink(socket: NetlinkSocket, name: string, attributes: readonly Attribute[]): void {
  const flags = netlinkFlags.create | netlinkFlags.exclusive;
  const body = Buffer.concat([ifinfomsg({}), attributeBytes([[IFLA.name, name], ...attributes])]);
  socket.request(RTM.newLink, flags, body, name);
}

function ifinfomsg(fields: { family?: number; index?: number; flags?: number; changed?: number }): Buffer {
  const message = Buffer.alloc(ifinfomsgBytes);
  message.writeUInt8(fields.family ?? 0, 0);
  message.writeInt32LE(fields.index ?? 0, 4);
  message.writeUInt32LE(fields.flags ?? 0, 8);
  message.writeUInt32LE(fields.changed ?? 0, 12);
  return message;
}

function readLink(payload: Buffer): Link {
  const attributes = readAttributes(payload.subarray(ifinfomsgBytes));
  const flags = payload.readUInt32LE(8);
  const info = readAttributes(attributes.get(IFLA.linkInfo) ?? Buffer.alloc(0));
  const text = (bytes: Buffer | undefined) => (bytes === undefined ? undefined : cString(bytes));
  const mac = attributes.get(IFLA.address);
  return {
    index: payload.readInt32LE(4),
    name: text(attributes.get(IFLA.name)) ?? '',
    mac: mac?.length === 6 ? formatMac(mac) : undefined,
    mtu: attributes.get(IFLA.mtu)?.readUInt32LE(0) ?? 0,
    up: (flags & IFF_UP) !== 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    kind: text(info.get(IFLA_INFO_KIND)),
    alias: text(attributes.get(IFLA.alias)),
  };
}
