import { formatPrefix, networkOf, parsePrefix } from '../../network/ipAddress.ts';
import type { NetworkDetails } from '../../runtime/networkVerbs.ts';
import { inspectEach } from '../inspectEach.ts';
import type { Verb } from '../verb.ts';

export const networkInspect: Verb = {
  configure(command) {
    command.option('-f, --format <format>', 'json, or a Go template');
  },

  async run(command, context) {
    const { format } = command.opts<{ readonly format?: string }>();
    const { networks } = await context.deps.engine();
    return await inspectEach(command.args, format, (name) => inspectNetwork(networks.inspect(name)), context);
  },
};

/** A network as `docker network inspect` shows it. */
function inspectNetwork({ network, members }: NetworkDetails): object {
  const ranges = [network.gateway4, ...(network.gateway6 === undefined ? [] : [network.gateway6])];
  return {
    Name: network.name,
    Id: network.id,
    Created: network.createdAt,
    Scope: 'local',
    Driver: 'bridge',
    EnableIPv4: true,
    EnableIPv6: network.gateway6 !== undefined,
    IPAM: {
      Driver: 'default',
      Options: new Map(),
      Config: ranges.map((text) => ({
        Subnet: formatPrefix(networkOf(parsePrefix(text, 'the gateway'))),
        Gateway: text.split('/', 1)[0],
      })),
    },
    Internal: network.internal,
    Containers: new Map(
      members.map(({ containerId, containerName, endpoint }) => [
        containerId,
        {
          Name: containerName,
          MacAddress: endpoint.mac,
          IPv4Address: withLength(endpoint.ipv4, network.gateway4),
          IPv6Address: withLength(endpoint.ipv6, network.gateway6),
        },
      ]),
    ),
    Options: new Map([
      ['bridge', network.bridge],
      ['mtu', String(network.mtu)],
    ]),
    Labels: new Map(Object.entries(network.labels)),
  };
}

function withLength(address: string | undefined, gateway: string | undefined): string {
  return address === undefined ? '' : `${address}/${gateway?.split('/')[1] ?? ''}`;
}
