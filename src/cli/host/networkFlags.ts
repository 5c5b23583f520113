import type { Command } from 'commander';
import { HrunError } from '../../base/errors.ts';
import type { EgressPolicy } from '../../network/endpoint.ts';
import { formatIp, parseIp } from '../../network/ipAddress.ts';
import { parseMac } from '../../network/macAddress.ts';
import type { NetworkWish } from '../../runtime/runRequest.ts';
import { addList, checked } from '../flags.ts';
import { parseNetwork } from '../parse/networkFlag.ts';
import {
  parseDns,
  parseDnsOption,
  parseDomain,
  parseEgress,
  parseExtraHost,
  parseRate,
} from '../parse/networks.ts';
import { parseExposed, parsePublish } from '../parse/ports.ts';

/** The options of `run` and `create` that are about networks. */
export interface NetworkFlags {
  readonly addHost: readonly string[];
  readonly dns: readonly string[];
  readonly dnsOption: readonly string[];
  readonly dnsSearch: readonly string[];
  readonly egress?: { readonly policy: EgressPolicy | undefined };
  readonly expose: readonly string[];
  readonly ip?: string;
  readonly ip6?: string;
  readonly macAddress?: string;
  readonly netRate?: number;
  readonly network: readonly string[];
  readonly net: readonly string[];
  readonly networkAlias: readonly string[];
  readonly publish: readonly string[];
  readonly publishAll?: true;
}

export function addNetworkFlags(command: Command): void {
  const address = checked((text: string) => formatIp(parseIp(text, 'the address')));
  addList(command, '--add-host <host>', 'Add a line to /etc/hosts: NAME:ADDRESS, or NAME:host-gateway');
  addList(command, '--dns <address>', "Ask this name server instead of the host's");
  addList(command, '--dns-option <option>', 'Add an option to /etc/resolv.conf');
  addList(command, '--dns-search <domain>', 'Look names up in this domain; ".": in none');
  command.option(
    '--egress <policy>',
    'What the container may reach: none, all, allow=CIDR|NAME[:PORT],… (default: all)',
    checked((text: string) => ({ policy: parseEgress(text) })),
  );
  addList(command, '--expose <port>', 'Expose a port, for --publish-all: PORT[-LAST][/PROTOCOL]');
  command.option('--ip <address>', 'IPv4 address of the container', address);
  command.option('--ip6 <address>', 'IPv6 address of the container', address);
  command.option('--mac-address <address>', 'MAC address of the container', checked(parseMac));
  command.option('--net-rate <size>', 'Most bytes per second in each direction', checked(parseRate));
  addList(
    command,
    '--network <network>',
    'Connect to a network: NAME or name=NAME,ip=…,alias=…, user, cni:NAME, container:NAME, none (default: bridge as root, else user)',
  );
  addList(command, '--net <network>', 'As --network');
  addList(command, '--network-alias <name>', 'Another name of the container in its network');
  addList(command, '-p, --publish <port>', 'Publish a port: [IP:][HOST_PORT:]CONTAINER_PORT[/PROTOCOL]');
  command.option('-P, --publish-all', 'Publish every exposed port to a random one of the host');
}

/** @throws HrunError INVALID_ARGUMENT */
export function networkWish(flags: NetworkFlags): NetworkWish {
  const { none, connections: named } = connectionsOf([...flags.network, ...flags.net].map(parseNetwork));
  const own = {
    aliases: flags.networkAlias.map((alias) => alias.toLowerCase()),
    ...(flags.ip !== undefined && { ipv4: flags.ip }),
    ...(flags.ip6 !== undefined && { ipv6: flags.ip6 }),
    ...(flags.macAddress !== undefined && { mac: flags.macAddress }),
  };
  const given = own.aliases.length > 0 || Object.keys(own).length > 1;
  const connections = named.map((connection, index) => (index === 0 ? merged(connection, own) : connection));
  const egress = flags.egress?.policy;
  return {
    none,
    connections: connections.length > 0 || none || !given ? connections : [{ network: 'default', ...own }],
    ports: flags.publish.flatMap(parsePublish),
    publishAll: flags.publishAll === true,
    expose: flags.expose.map(parseExposed),
    dns: flags.dns.map(parseDns),
    dnsSearch: flags.dnsSearch.map(parseDomain),
    dnsOptions: flags.dnsOption.map(parseDnsOption),
    extraHosts: flags.addHost.map(parseExtraHost),
    ...(egress !== undefined && { egress: { allow: [...egress.allow] } }),
    ...(flags.netRate !== undefined && { rateBytes: flags.netRate }),
  };
}

type Connection = NetworkWish['connections'][number];

/** @throws HrunError INVALID_ARGUMENT, in Docker's words, for what is said in both ways */
function merged(connection: Connection, own: Omit<Connection, 'network'>): Connection {
  const pairs = [
    ['--ip', 'IP address', connection.ipv4, own.ipv4],
    ['--ip6', 'IPv6 address', connection.ipv6, own.ipv6],
    ['--mac-address', 'MAC address', connection.mac, own.mac],
    ['--network-alias', 'alias', connection.aliases[0], own.aliases[0]],
  ] as const;
  const both = pairs.find(([, , there, here]) => there !== undefined && here !== undefined);
  if (both === undefined) {
    return { ...connection, ...own, aliases: [...connection.aliases, ...own.aliases] };
  }
  const [option, what] = both;
  throw new HrunError(
    'INVALID_ARGUMENT',
    `conflicting options: cannot specify both ${option} and per-network ${what}`,
  );
}

function connectionsOf(all: readonly Connection[]): {
  readonly none: boolean;
  readonly connections: readonly Connection[];
} {
  const names = all.map(({ network }) => network);
  if (names.includes('host')) {
    throw new HrunError('INVALID_ARGUMENT', 'a microVM cannot have the network of the host', {
      hint: 'publish its ports with --publish, and reach the host by --add-host NAME:host-gateway',
    });
  }
  if (!names.includes('none')) return { none: false, connections: all };
  if (all.length === 1) return { none: true, connections: [] };
  throw new HrunError('INVALID_ARGUMENT', 'conflicting options: --network none goes with no other network');
}
