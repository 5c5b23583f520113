import {
  type Attribute,
  attributeBytes,
  type NetlinkSocket,
  netlinkFlags,
  readAttributes,
} from '../../sys/netlink.ts';
import { formatPrefix, type IpPrefix, ipBytes, ipFromBytes } from '../ipAddress.ts';
import { AF, RTM } from './routeSocket.ts';

const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_F_NODAD = 2;
const ifaddrmsgBytes = 8;
const RT_SCOPE_LINK = 253;

export interface InterfaceAddress {
  readonly index: number;
  /** The address and the length of its prefix. */
  readonly prefix: IpPrefix;
  readonly linkLocal: boolean;
}

export function listAddresses(socket: NetlinkSocket): InterfaceAddress[] {
  const request = Buffer.alloc(ifaddrmsgBytes);
  return socket
    .request(RTM.getAddress, netlinkFlags.dump, request, 'addresses')
    .filter(({ type }) => type === RTM.newAddress)
    .flatMap(({ payload }) => {
      const attributes = readAttributes(payload.subarray(ifaddrmsgBytes));
      // of a point-to-point link IFA_ADDRESS is the other end
      const bytes = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS);
      const base = bytes === undefined ? undefined : ipFromBytes(bytes);
      if (base === undefined) return [];
      const linkLocal = payload.readUInt8(3) === RT_SCOPE_LINK;
      return [{ index: payload.readUInt32LE(4), prefix: { base, length: payload.readUInt8(1) }, linkLocal }];
    });
}

/** At once usable: without duplicate address detection. @throws the system error: EEXIST */
export function addAddress(socket: NetlinkSocket, index: number, prefix: IpPrefix): void {
  const { base, length } = prefix;
  const message = Buffer.alloc(ifaddrmsgBytes);
  message.writeUInt8(base.family === 4 ? AF.ipv4 : AF.ipv6, 0);
  message.writeUInt8(length, 1);
  message.writeUInt32LE(index, 4);
  const attributes: Attribute[] = [
    [IFA_LOCAL, ipBytes(base)],
    [IFA_ADDRESS, ipBytes(base)],
    [IFA_FLAGS, IFA_F_NODAD],
  ];
  const flags = netlinkFlags.create | netlinkFlags.exclusive;
  const body = Buffer.concat([message, attributeBytes(attributes)]);
  socket.request(RTM.newAddress, flags, body, formatPrefix(prefix));
}
