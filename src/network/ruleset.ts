import type { Endpoint, PublishedPort } from './endpoint.ts';
import { formatIp, type IpPrefix, parsePrefix, readIp } from './ipAddress.ts';
import type { NetworkDefinition } from './networkDefinition.ts';
import type { NftCommand } from './nft.ts';
import {
  accept,
  addressType,
  concat,
  connection,
  drop,
  ipProtocol,
  jump,
  leave,
  masquerade,
  match,
  meta,
  type NftStatement,
  payload,
  range,
  reject,
} from './nftExpressions.ts';

/** All that the rules of one namespace follow from. */
export interface RulesetInput {
  /** Name of the tables; they are ours alone. */
  readonly table: string;
  readonly networks: readonly NetworkDefinition[];
  readonly endpoints: readonly Endpoint[];
  /** By network id: port on the gateway's IPv4 address that its resolver listens on. */
  readonly resolvers: ReadonlyMap<string, { readonly udpPort: number; readonly tcpPort: number }>;
}

/** Where clouds keep what only the host itself should know. */
const metadataRanges = ['169.254.0.0/16', 'fd00:ec2::254/128'];
const loopback = { ip: '127.0.0.0/8', ip6: '::1/128' } as const;
const neighbourDiscovery = ['nd-neighbor-solicit', 'nd-neighbor-advert', 'nd-router-solicit'];
const refusedSeconds = 3600;
const refusedEntries = 4096;
const natOutputPriority = -100;
/** Before connections are tracked. */
const rawPriority = -300;

/** The set of destinations that guests were refused, by source; kept over changes of the rules. */
export const refusedSet = { 4: 'refused4', 6: 'refused6' } as const;
/** Pairs of source and destination that a name was found to mean. */
export const namedSet = { 4: 'named4', 6: 'named6' } as const;

const chains = {
  wire: { type: 'filter', hook: 'prerouting', prio: rawPriority, policy: 'accept' },
  toWire: { type: 'filter', hook: 'postrouting', prio: rawPriority, policy: 'accept' },
  prerouting: { type: 'nat', hook: 'prerouting', prio: -100, policy: 'accept' },
  output: { type: 'nat', hook: 'output', prio: natOutputPriority, policy: 'accept' },
  ports: {},
  postrouting: { type: 'nat', hook: 'postrouting', prio: 100, policy: 'accept' },
  forward: { type: 'filter', hook: 'forward', prio: 0, policy: 'accept' },
  input: { type: 'filter', hook: 'input', prio: 0, policy: 'accept' },
  egress: {},
  refuse: {},
} as const;
type Chain = keyof typeof chains;

/**
 * Both tables as one transaction: `inet` for what is routed, `arp` for who may say that an address is his. Guests of a
 * network reach each other through the host's routing, so that all rules hold between them too.
 * @param how `anew`: whatever was there before. `again`: what `anew` once made gets other rules and keeps what its sets
 *   have gathered; it fails when the tables are gone
 */
export function rulesetCommands(input: RulesetInput, how: 'anew' | 'again'): NftCommand[] {
  const own = { family: 'inet', table: input.table };
  const start =
    how === 'again'
      ? Object.keys(chains).map((name) => ({ flush: { chain: { ...own, name } } }))
      : [...removalCommands(input.table), ...emptyTable(own)];
  return [...start, ...routedRules(input).map((rule) => ruleCommand(own, rule)), ...arpTable(input)];
}

export function removalCommands(table: string): NftCommand[] {
  return (['inet', 'arp'] as const).flatMap((family) => {
    const named = { table: { family, name: table } };
    // deleting what is not there would fail
    return [{ add: named }, { delete: named }];
  });
}

function emptyTable(own: { readonly family: string; readonly table: string }): NftCommand[] {
  return [
    { add: { table: { family: own.family, name: own.table } } },
    ...setsOf(own),
    ...Object.entries(chains).map(([name, hook]) => ({ add: { chain: { ...own, name, ...hook } } })),
  ];
}

function ruleCommand(own: object, [chain, ...expr]: Rule): NftCommand {
  return { add: { rule: { ...own, chain, expr } } };
}

function setsOf(own: { family: string; table: string }): NftCommand[] {
  return ([4, 6] as const).flatMap((family) => {
    const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
    const refused = {
      ...own,
      name: refusedSet[family],
      type: [address, address, 'inet_proto', 'inet_service'],
      size: refusedEntries,
      flags: ['timeout'],
      timeout: refusedSeconds,
      stmt: [{ counter: null }],
    };
    const named = { ...own, name: namedSet[family], type: [address, address], flags: ['timeout'] };
    return [{ add: { set: refused } }, { add: { set: named } }];
  });
}

type Rule = readonly [Chain, ...NftStatement[]];

function routedRules(input: RulesetInput): Rule[] {
  const { endpoints } = input;
  const taps = endpoints.map(({ tap }) => tap);
  if (taps.length === 0) return [];
  const fromGuest = match(meta('iifname'), { set: taps });
  const toGuest = match(meta('oifname'), { set: taps });
  const places = input.networks.map((network) => ({
    network,
    taps: endpoints.filter(({ networkId }) => networkId === network.id).map(({ tap }) => tap),
  }));
  return [
    ...wireRules(endpoints, fromGuest),
    ...places.flatMap((place) => resolverRules(place, input.resolvers.get(place.network.id))),
    ['prerouting', match(addressType, 'local'), jump('ports')],
    ['output', match(addressType, 'local'), jump('ports')],
    ...endpoints.flatMap((endpoint) => endpoint.ports.flatMap((port) => portRules(endpoint, port))),
    ...places.flatMap(natRules),
    ['forward', match(connection('state'), ['established', 'related'], 'in'), accept],
    ['forward', fromGuest, jump('egress')],
    ...places.flatMap(({ network, taps: own }): Rule[] => [
      ['forward', match(meta('iifname'), { set: own }), match(meta('oifname'), { set: own }), accept],
      ...(network.internal
        ? ([['forward', match(meta('iifname'), { set: own }), jump('refuse')]] as Rule[])
        : []),
    ]),
    ['forward', toGuest, match(connection('status'), 'dnat', 'in'), accept],
    // neither the networks of other guests nor unpublished ports are for others
    ['forward', toGuest, fromGuest, jump('refuse')],
    ['forward', toGuest, drop],
    ['input', match(connection('state'), ['established', 'related'], 'in'), accept],
    ['input', fromGuest, match(payload('icmpv6', 'type'), { set: neighbourDiscovery }), accept],
    ['input', fromGuest, jump('egress')],
    ...egressRules(input, places),
    ...refuseRules(),
  ];
}

/** A packet passes with the addresses of the guest behind the tap only, and not faster than it may. */
function wireRules(endpoints: readonly Endpoint[], fromGuest: NftStatement): Rule[] {
  const from = meta('iifname');
  const mac = payload('ether', 'saddr');
  const pairs = (family: 4 | 6) =>
    endpoints.flatMap(({ tap, mac: of, ipv4, ipv6 }) => {
      const addresses = family === 4 ? [ipv4] : ipv6 === undefined ? [] : [ipv6, linkLocalOf(of), '::'];
      return addresses.flatMap((address) => (address === undefined ? [] : [{ concat: [tap, of, address] }]));
    });
  const passing = (family: 4 | 6): Rule[] => {
    const set = pairs(family);
    if (set.length === 0) return [];
    const key = concat(from, mac, payload(family === 4 ? 'ip' : 'ip6', 'saddr'));
    return [['wire', match(key, { set }), accept]];
  };
  return [
    ...endpoints.flatMap(({ tap, rateBytes }): Rule[] =>
      rateBytes === undefined
        ? []
        : [
            ['wire', match(from, tap), ...over(rateBytes)],
            ['toWire', match(meta('oifname'), tap), ...over(rateBytes)],
          ],
    ),
    // taps route to loopback for the sake of published ports
    ...(['ip', 'ip6'] as const).map(
      (ip): Rule => ['wire', fromGuest, match(payload(ip, 'daddr'), loopbackOf(ip)), drop],
    ),
    ...passing(4),
    ...passing(6),
    ['wire', fromGuest, drop],
  ];
}

/** A network and the taps of its guests. */
interface Placed {
  readonly network: NetworkDefinition;
  readonly taps: readonly string[];
}

function rangesOf({ gateway4, gateway6 }: NetworkDefinition): IpPrefix[] {
  return [gateway4, ...(gateway6 === undefined ? [] : [gateway6])].map((text) =>
    parsePrefix(text, 'the gateway'),
  );
}

function gateway4Of({ gateway4 }: NetworkDefinition): string {
  return gateway4.split('/', 1)[0] ?? '';
}

/** Its port is any free one, so that a name server of the host is in nobody's way. */
function resolverRules(
  { network, taps }: Placed,
  resolver: { readonly udpPort: number; readonly tcpPort: number } | undefined,
): Rule[] {
  if (resolver === undefined) return [];
  const asked = [match(meta('iifname'), { set: taps }), match(payload('ip', 'daddr'), gateway4Of(network))];
  return [
    ['prerouting', ...asked, match(payload('udp', 'dport'), 53), redirect(network, resolver.udpPort)],
    ['prerouting', ...asked, match(payload('tcp', 'dport'), 53), redirect(network, resolver.tcpPort)],
  ];
}

/** Not `redirect`, which would choose an address of the tap. */
function redirect(network: NetworkDefinition, port: number): NftStatement {
  return { dnat: { family: 'ip', addr: gateway4Of(network), port } };
}

function portRules({ ipv4, ipv6 }: Endpoint, port: PublishedPort): Rule[] {
  const { hostIp, hostPort, guestPort, protocol } = port;
  const host = hostIp === '' ? undefined : readIp(hostIp);
  const to = (family: 4 | 6, address: string | undefined): Rule[] => {
    if (address === undefined || (host !== undefined && host.family !== family)) return [];
    const ip = family === 4 ? 'ip' : 'ip6';
    return [
      [
        'ports',
        match(meta('nfproto'), family === 4 ? 'ipv4' : 'ipv6'),
        // an unspecified address is every address
        ...(host === undefined || host.value === 0n ? [] : [match(payload(ip, 'daddr'), hostIp)]),
        match(payload(protocol, 'dport'), hostPort),
        { dnat: { family: ip, addr: address, port: guestPort } },
      ],
    ];
  };
  return [...to(4, ipv4), ...to(6, ipv6)];
}

function natRules({ network, taps }: Placed): Rule[] {
  const out = match(meta('oifname'), { set: taps });
  const viaPort = match(connection('status'), 'dnat', 'in');
  return rangesOf(network).flatMap((prefix): Rule[] => {
    const ip = ipProtocol(prefix);
    const fromRange = match(payload(ip, 'saddr'), range(prefix));
    const asGateway = { snat: { family: ip, addr: formatIp(prefix.base) } };
    const elsewhere = match(meta('oifname'), { set: taps }, '!=');
    return [
      ...(network.internal ? [] : ([['postrouting', fromRange, elsewhere, masquerade]] as Rule[])),
      // through a published port back into the same network: the answer has to take the same way
      ['postrouting', out, fromRange, viaPort, asGateway],
      ['postrouting', out, match(payload(ip, 'saddr'), loopbackOf(ip)), asGateway],
    ];
  });
}

function loopbackOf(ip: 'ip' | 'ip6'): string | object {
  return range(parsePrefix(loopback[ip], 'loopback'));
}

/** What guests may begin; whatever comes out at the end of the chain may go on. */
function egressRules({ endpoints, resolvers }: RulesetInput, places: readonly Placed[]): Rule[] {
  const closed = endpoints.filter(({ egress }) => egress !== undefined);
  const resolverPorts = [...resolvers.values()].flatMap(({ udpPort, tcpPort }) => [udpPort, tcpPort]);
  const toResolver = places.flatMap(({ network, taps }): Rule[] => {
    if (!resolvers.has(network.id)) return [];
    const gateway = match(payload('ip', 'daddr'), gateway4Of(network));
    const ports = match(payload('th', 'dport'), { set: resolverPorts });
    return [['egress', match(meta('iifname'), { set: taps }), gateway, ports, leave]];
  });
  return [
    ...toResolver,
    ...closed.flatMap(allowRules),
    ...metadataRanges.map((text): Rule => {
      const prefix = parsePrefix(text, 'metadata');
      return ['egress', match(payload(ipProtocol(prefix), 'daddr'), range(prefix)), jump('refuse')];
    }),
    ...closed.flatMap(({ ipv4, ipv6 }) =>
      sources(ipv4, ipv6).map(([, source]): Rule => ['egress', source, jump('refuse')]),
    ),
  ];
}

function allowRules({ ipv4, ipv6, egress }: Endpoint): Rule[] {
  return sources(ipv4, ipv6).flatMap(([family, source]) => {
    const ip = family === 4 ? 'ip' : 'ip6';
    const ofPort = (port: number | undefined) =>
      port === undefined ? [] : [match(payload('th', 'dport'), port)];
    return (egress?.allow ?? []).flatMap((allowance): Rule[] => {
      if (allowance.name !== undefined) {
        const pair = concat(payload(ip, 'saddr'), payload(ip, 'daddr'));
        return [['egress', source, ...ofPort(allowance.port), match(pair, `@${namedSet[family]}`), leave]];
      }
      const prefix = parsePrefix(allowance.range ?? '', 'the range');
      if (prefix.base.family !== family) return [];
      const destination = match(payload(ip, 'daddr'), range(prefix));
      return [['egress', source, destination, ...ofPort(allowance.port), leave]];
    });
  });
}

function sources(ipv4: string | undefined, ipv6: string | undefined): (readonly [4 | 6, NftStatement])[] {
  return [
    ...(ipv4 === undefined ? [] : [[4, match(payload('ip', 'saddr'), ipv4)] as const]),
    ...(ipv6 === undefined ? [] : [[6, match(payload('ip6', 'saddr'), ipv6)] as const]),
  ];
}

/** Remembers, then says no, so that nobody waits for a time-out. */
function refuseRules(): Rule[] {
  const remember = (family: 4 | 6): Rule => {
    const ip = family === 4 ? 'ip' : 'ip6';
    const elem = concat(payload(ip, 'saddr'), payload(ip, 'daddr'), meta('l4proto'), payload('th', 'dport'));
    return [
      'refuse',
      match(meta('nfproto'), family === 4 ? 'ipv4' : 'ipv6'),
      match(meta('l4proto'), { set: ['tcp', 'udp', 'sctp'] }),
      { set: { op: 'update', elem, set: `@${refusedSet[family]}` } },
    ];
  };
  return [remember(4), remember(6), ['refuse', reject]];
}

/** Who says that an address is his must be its guest. */
function arpTable({ table, endpoints }: RulesetInput): NftCommand[] {
  const own = { family: 'arp', table };
  const set = endpoints.flatMap(({ tap, mac, ipv4 }) =>
    ipv4 === undefined ? [] : [{ concat: [tap, mac, ipv4] }],
  );
  const key = concat(meta('iifname'), payload('arp', 'saddr ether'), payload('arp', 'saddr ip'));
  const rules = [
    ...(set.length === 0 ? [] : [[match(key, { set }), accept]]),
    [match(meta('iifname'), { set: endpoints.map(({ tap }) => tap) }), drop],
  ];
  return [
    { add: { table: { family: 'arp', name: table } } },
    { delete: { table: { family: 'arp', name: table } } },
    { add: { table: { family: 'arp', name: table } } },
    { add: { chain: { ...own, name: 'input', type: 'filter', hook: 'input', prio: 0, policy: 'accept' } } },
    ...(endpoints.length === 0 ? [] : rules).map((expr) => ({
      add: { rule: { ...own, chain: 'input', expr } },
    })),
  ];
}

/** Drops what comes faster, with a tenth of a second's worth of slack. */
function over(bytesPerSecond: number): NftStatement[] {
  const burst = Math.max(Math.round(bytesPerSecond / 10), 16 * 1024);
  const limit = {
    rate: bytesPerSecond,
    per: 'second',
    rate_unit: 'bytes',
    burst,
    burst_unit: 'bytes',
    inv: true,
  };
  return [{ limit }, drop];
}

/** What Linux makes itself of a MAC address (RFC 4291, appendix A). */
function linkLocalOf(mac: string): string {
  const bytes = mac.split(':').map((byte) => Number.parseInt(byte, 16));
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = bytes;
  const group = (high: number, low: number) => ((high << 8) | low).toString(16);
  return `fe80::${group(a ^ 2, b)}:${group(c, 0xff)}:${group(0xfe, d)}:${group(e, f)}`;
}
