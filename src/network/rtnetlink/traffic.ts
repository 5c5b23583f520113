import { attributeBytes, type NetlinkSocket, netlinkFlags } from '../../sys/netlink.ts';
import { RTM } from './routeSocket.ts';

const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TC_H_INGRESS = 0xffff_fff1;
const ingressHandle = 0xffff_0000;
const ETH_P_ALL = 0x0003;
const TCA_U32_SEL = 5;
const TCA_U32_ACT = 7;
const TC_U32_TERMINAL = 1;
const TCA_ACT_KIND = 1;
const TCA_ACT_OPTIONS = 2;
const TCA_MIRRED_PARMS = 2;
const TCA_EGRESS_REDIR = 1;
const TC_ACT_STOLEN = 4;
const tcmsgBytes = 20;

/**
 * Everything that interface `from` receives is sent out of interface `to`, unseen by anything else of this host
 * (tc-mirred(8)). One such rule per interface.
 * @throws the system error: EEXIST where the interface has an ingress qdisc already
 */
export function redirectIngress(socket: NetlinkSocket, from: number, to: number, subject: string): void {
  const exclusive = netlinkFlags.create | netlinkFlags.exclusive;
  const qdisc = [
    tcmsg({ index: from, handle: ingressHandle, parent: TC_H_INGRESS }),
    attributeBytes([[TCA_KIND, 'ingress']]),
  ];
  socket.request(RTM.newQdisc, exclusive, Buffer.concat(qdisc), subject);
  const protocol = Buffer.alloc(2);
  protocol.writeUInt16BE(ETH_P_ALL);
  const filter = [
    tcmsg({ index: from, parent: ingressHandle, info: (1 << 16) | protocol.readUInt16LE() }),
    attributeBytes([
      [TCA_KIND, 'u32'],
      [
        TCA_OPTIONS,
        {
          nested: [
            [TCA_U32_SEL, selectAll()],
            [TCA_U32_ACT, { nested: [[1, { nested: redirectAction(to) }]] }],
          ],
        },
      ],
    ]),
  ];
  socket.request(RTM.newFilter, exclusive, Buffer.concat(filter), subject);
}

/** Undoes `redirectIngress`. @throws the system error: EINVAL or ENOENT when there is no such qdisc */
export function removeIngress(socket: NetlinkSocket, index: number, subject: string): void {
  const qdisc = [
    tcmsg({ index, handle: ingressHandle, parent: TC_H_INGRESS }),
    attributeBytes([[TCA_KIND, 'ingress']]),
  ];
  socket.request(RTM.delQdisc, 0, Buffer.concat(qdisc), subject);
}

/** struct tc_u32_sel with one key that every packet has: matchall is missing on some kernels. */
function selectAll(): Buffer {
  const select = Buffer.alloc(32);
  select.writeUInt8(TC_U32_TERMINAL, 0);
  select.writeUInt8(1, 2);
  return select;
}

function redirectAction(to: number): readonly (readonly [number, string | { nested: [number, Buffer][] }])[] {
  // struct tc_mirred: index, capabilities, action, reference counts, then what it does and where to
  const parameters = Buffer.alloc(28);
  parameters.writeInt32LE(TC_ACT_STOLEN, 8);
  parameters.writeInt32LE(TCA_EGRESS_REDIR, 20);
  parameters.writeUInt32LE(to, 24);
  return [
    [TCA_ACT_KIND, 'mirred'],
    [TCA_ACT_OPTIONS, { nested: [[TCA_MIRRED_PARMS, parameters]] }],
  ];
}

function tcmsg(fields: { index: number; handle?: number; parent: number; info?: number }): Buffer {
  const message = Buffer.alloc(tcmsgBytes);
  message.writeInt32LE(fields.index, 4);
  message.writeUInt32LE(fields.handle ?? 0, 8);
  message.writeUInt32LE(fields.parent, 12);
  message.writeUInt32LE((fields.info ?? 0) >>> 0, 16);
  return message;
}
