import type { PublishedPort } from '../../network/endpoint.ts';
import type { ContainerRecord } from '../../runtime/containerRecord.ts';

/** The `NetworkSettings` of `docker inspect`, with hrun's own `Tap` in each network. */
export function networkSettingsOf({ config, state }: ContainerRecord): object {
  const endpoints = state.endpoints ?? [];
  const [first] = endpoints;
  const aliasesOf = (network: string) =>
    config.network.connections.find((connection) => connection.network === network)?.aliases ?? [];
  const known = new Map(endpoints.map((endpoint) => [endpoint.network, endpoint]));
  const names = [...new Set([...config.network.connections.map(({ network }) => network), ...known.keys()])];
  return {
    Ports: portMap(endpoints.flatMap(({ ports }) => ports)),
    IPAddress: first?.ipv4 ?? '',
    GlobalIPv6Address: first?.ipv6 ?? '',
    MacAddress: first?.mac ?? '',
    Networks: new Map(
      names.map((name) => {
        const endpoint = known.get(name);
        return [
          name,
          {
            Aliases: aliasesOf(name),
            NetworkID: endpoint?.networkId ?? '',
            IPAddress: endpoint?.ipv4 ?? '',
            GlobalIPv6Address: endpoint?.ipv6 ?? '',
            MacAddress: endpoint?.mac ?? '',
            DNSNames: endpoint?.names ?? [],
            Tap: endpoint?.tap ?? '',
          },
        ];
      }),
    ),
  };
}

function portMap(ports: readonly PublishedPort[]): Map<string, object[]> {
  const map = new Map<string, object[]>();
  for (const { hostIp, hostPort, guestPort, protocol } of ports) {
    const key = `${guestPort}/${protocol}`;
    const hosts = hostIp === '' ? ['0.0.0.0', '::'] : [hostIp];
    const bindings = hosts.map((address) => ({ HostIp: address, HostPort: String(hostPort) }));
    map.set(key, [...(map.get(key) ?? []), ...bindings]);
  }
  return map;
}
