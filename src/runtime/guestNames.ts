import type { Endpoint } from '../network/endpoint.ts';
import type { ContainerConfig } from './containerRecord.ts';

export interface NameFiles {
  readonly hosts: string;
  readonly resolvConf: string;
}

/** What a container finds in /etc/hosts and /etc/resolv.conf. */
export interface NameSettings {
  /** Its places in networks. */
  readonly endpoints: readonly Endpoint[];
  /** IPv4 address of the gateway, where the network's resolver is asked too. */
  readonly gateway: string | undefined;
  /** `search` and `options` of the host, for those that the user did not choose. */
  readonly hostSearch: readonly string[];
}

const loopbackLines = [
  '127.0.0.1\tlocalhost',
  '::1\tlocalhost ip6-localhost ip6-loopback',
  'fe00::0\tip6-localnet',
  'ff00::0\tip6-mcastprefix',
  'ff02::1\tip6-allnodes',
  'ff02::2\tip6-allrouters',
];

export function nameFiles(config: ContainerConfig, settings: NameSettings): NameFiles {
  return { hosts: hostsFile(config, settings), resolvConf: resolvConf(config, settings) };
}

function hostsFile(
  { hostname, domainname, network }: ContainerConfig,
  { endpoints, gateway }: NameSettings,
): string {
  const names = domainname === '' ? hostname : `${hostname}.${domainname} ${hostname}`;
  const own = endpoints.flatMap(({ ipv4, ipv6 }) => [ipv4 ?? [], ipv6 ?? []].flat());
  const extra = network.extraHosts.flatMap(({ name, address }) => {
    const meant = address === 'host-gateway' ? gateway : address;
    return meant === undefined ? [] : [`${meant}\t${name}`];
  });
  const ownLines = own.length === 0 ? [`127.0.1.1\t${names}`] : own.map((address) => `${address}\t${names}`);
  return [...loopbackLines, ...extra, ...ownLines, ''].join('\n');
}

function resolvConf({ network }: ContainerConfig, { gateway, hostSearch }: NameSettings): string {
  const { dns, dnsSearch, dnsOptions } = network;
  const servers = gateway === undefined ? dns : [gateway];
  // "." means none at all, as with Docker
  const search = dnsSearch.length === 0 ? hostSearch : dnsSearch.filter((domain) => domain !== '.');
  return [
    ...servers.map((server) => `nameserver ${server}`),
    ...(search.length > 0 && servers.length > 0 ? [`search ${search.join(' ')}`] : []),
    ...(dnsOptions.length > 0 ? [`options ${dnsOptions.join(' ')}`] : []),
    '',
  ]
    .join('\n')
    .replace(/^\n$/, '');
}
