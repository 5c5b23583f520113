import { HrunError } from '../base/errors.ts';
import { findTool } from '../base/findTool.ts';
import type { ContainerNetwork } from '../network/containerNetwork.ts';
import { openUserNetwork, userNetworkName } from '../network/userNetwork.ts';
import { configureGuestNetwork } from './configureGuestNetwork.ts';
import type { ContainerRecord } from './containerRecord.ts';
import { nameFiles } from './guestNames.ts';
import type { ContainerNetworking, NetworkCaller } from './networkCaller.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';

type UserDeps = Pick<RuntimeDeps, 'store' | 'vmm'>;

/**
 * Connects a container to the network of its caller without any right of root: passt speaks for it.
 * @throws HrunError as openUserNetwork, NETWORK_FAILED without passt; nothing is left behind then
 */
export async function openUserNetworking(
  { id, name, config }: ContainerRecord,
  host: { readonly servers: readonly string[]; readonly search: readonly string[] },
  deps: UserDeps,
  caller: NetworkCaller,
  signal: AbortSignal,
): Promise<ContainerNetworking> {
  const { network } = config;
  await using undo = new AsyncDisposableStack();
  const { jail } = await deps.vmm(signal);
  const passtPath = findTool('passt');
  if (passtPath === undefined) {
    throw new HrunError('NETWORK_FAILED', `network ${userNetworkName} needs passt, which is not installed`, {
      hint: 'apt-get install passt, or use --network none',
    });
  }
  if (jail.launcherPath === undefined) {
    throw new HrunError('INTERNAL', 'the native binary of hrun was not found', { hint: 'run "make build"' });
  }
  using netns = caller.openNetns();
  const request = {
    id,
    names: [name],
    ports: network.ports,
    dns: network.dns,
    upstream: host.servers,
    ...(network.egress && { egress: network.egress }),
    ...(network.rateBytes !== undefined && { rateBytes: network.rateBytes }),
  };
  const opened = undo.use(
    await openUserNetwork(
      netns,
      request,
      { gatePath: jail.launcherPath, passtPath, uids: jail.uids },
      signal,
    ),
  );
  await deps.store.update(id, { endpoints: [opened.endpoint] });
  const servers = network.dns.length > 0 ? network.dns : opened.nameServers;
  const withServers = { ...config, network: { ...network, dns: [...servers] } };
  const owned = undo.move();
  return {
    names: nameFiles(withServers, {
      endpoints: [opened.endpoint],
      gateway: undefined,
      hostSearch: host.search,
    }),
    async connect(guest, connecting) {
      await guest.vm.plugNic(0, { kind: 'socket', fd: opened.cable.fd }, connecting);
      opened.cable[Symbol.dispose]();
      const { client } = await guest.agent(connecting);
      await configureGuestNetwork(client, [opened.guest], connecting);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** @throws HrunError INVALID_ARGUMENT naming what only a network of root's can do */
export function checkUserNetwork({ connections: [first] }: ContainerNetwork): void {
  if (first === undefined) return;
  const { ipv4, ipv6, mac, aliases } = first;
  const wishes: readonly (readonly [string, boolean])[] = [
    ['--ip', ipv4 !== undefined],
    ['--ip6', ipv6 !== undefined],
    ['--mac-address', mac !== undefined],
    ['--network-alias', aliases.length > 0],
  ];
  const [unknown] = wishes.find(([, wished]) => wished) ?? [];
  if (unknown === undefined) return;
  throw new HrunError('INVALID_ARGUMENT', `network ${userNetworkName} knows no ${unknown}`, {
    hint: 'the network bridge does, as root',
  });
}
