import { HrunError, isHrunError } from '../base/errors.ts';
import { attachedInterface } from '../network/attachedInterface.ts';
import type { ContainerNetwork } from '../network/containerNetwork.ts';
import type { Attached, NewlyAttached } from '../network/fabric.ts';
import { readIp } from '../network/ipAddress.ts';
import type { NetworkDefinition } from '../network/networkDefinition.ts';
import { userNetworkName } from '../network/userNetwork.ts';
import type { CallerFiles } from './callerFiles.ts';
import { adoptCniNetworking, openCniNetworking } from './cniNetworking.ts';
import { configureGuestNetwork } from './configureGuestNetwork.ts';
import type { ContainerConfig, ContainerRecord } from './containerRecord.ts';
import { nameFiles } from './guestNames.ts';
import type { ContainerNetworking, NetworkCaller } from './networkCaller.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';
import { checkUserNetwork, openUserNetworking } from './userNetworking.ts';

/** `--network cni:NAME`. */
const cniPrefix = 'cni:';
const maxResolvConfBytes = 64 * 1024;

type NetworkingDeps = Pick<RuntimeDeps, 'config' | 'log' | 'networks' | 'networkStore' | 'store' | 'vmm'>;

/**
 * Finds the container a place in each of its networks, in the caller's network namespace, and writes it down.
 * @throws HrunError NOT_FOUND for a network, PORT_IN_USE, ALREADY_EXISTS and the like; nothing is left behind then
 */
export async function openContainerNetworking(
  record: ContainerRecord,
  deps: NetworkingDeps,
  caller: NetworkCaller,
  signal: AbortSignal,
): Promise<ContainerNetworking> {
  const { id, name, config } = record;
  const { network } = config;
  if (network.connections.length === 0) return withoutNetwork(config);
  const host = await readResolvConf(caller.files, signal);
  const cniName = cniNameOf(network);
  if (cniName !== undefined) return await openCniNetworking(record, cniName, host, deps, caller);
  if (isUserNetwork(network)) return await openUserNetworking(record, host, deps, caller, signal);
  await using undo = new AsyncDisposableStack();
  const upstream = network.dns.length > 0 ? network.dns : host.servers;
  const attached: NewlyAttached[] = [];
  for (const [index, connection] of network.connections.entries()) {
    const definition = deps.networkStore.find(connection.network);
    const request = attachRequest({ id, name, config, connection, definition, upstream, first: index === 0 });
    const place = undo.use(await deps.networks.attach(caller.openNetns(), request, signal));
    undo.use(place.tap);
    attached.push(place);
  }
  await deps.store.update(id, { endpoints: attached.map(({ endpoint }) => endpoint) });
  const owned = undo.move();
  return {
    names: nameFiles(config, { ...namesOf(attached), hostSearch: host.search }),
    async connect(guest, connecting) {
      for (const [slot, { tap }] of attached.entries()) {
        await guest.vm.plugNic(slot, { kind: 'tap', fd: tap.fd }, connecting);
        tap[Symbol.dispose]();
      }
      const { client } = await guest.agent(connecting);
      const interfaces = attached.map(({ endpoint, network: of }, slot) =>
        attachedInterface(endpoint, of, `eth${slot}`),
      );
      await configureGuestNetwork(client, interfaces, connecting);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function cniNameOf({ connections }: ContainerNetwork): string | undefined {
  const name = connections[0]?.network;
  return name?.startsWith(cniPrefix) ? name.slice(cniPrefix.length) : undefined;
}

function isUserNetwork({ connections }: ContainerNetwork): boolean {
  return connections[0]?.network === userNetworkName;
}

/** The places of a container that an earlier daemon started. */
export function adoptContainerNetworking(record: ContainerRecord, deps: NetworkingDeps): AsyncDisposable {
  const { state } = record;
  const owned = new AsyncDisposableStack();
  const cni = adoptCniNetworking(record, deps);
  if (cni !== undefined) owned.use(cni);
  for (const endpoint of state.endpoints ?? []) {
    const network = deps.networkStore.list().find(({ id }) => id === endpoint.networkId);
    if (network === undefined || state.vm === undefined) continue;
    const place = deps.networks.adopt(endpoint, network, state.vm.pid);
    if (place !== undefined) owned.use(place);
  }
  return owned;
}

/** The place that a container asks for in one of its networks. */
export function attachRequest({
  id,
  name,
  config,
  connection,
  definition,
  upstream,
  first,
}: {
  readonly id: string;
  readonly name: string;
  readonly config: ContainerConfig;
  readonly connection: ContainerNetwork['connections'][number];
  readonly definition: NetworkDefinition;
  readonly upstream: readonly string[];
  readonly first: boolean;
}): Parameters<RuntimeDeps['networks']['attach']>[1] {
  const { aliases, ipv4, ipv6, mac } = connection;
  const { ports, egress, rateBytes } = config.network;
  const names = [name, ...aliases, id.slice(0, 12), config.hostname].map((text) => text.toLowerCase());
  return {
    network: definition,
    names: [...new Set(names)],
    // the first network's address is the one that ports lead to
    ports: first ? ports : [],
    upstream,
    ...(ipv4 !== undefined && { ipv4 }),
    ...(ipv6 !== undefined && { ipv6 }),
    ...(mac !== undefined && { mac }),
    ...(egress !== undefined && { egress }),
    ...(rateBytes !== undefined && { rateBytes }),
  };
}

function withoutNetwork(config: ContainerConfig): ContainerNetworking {
  return {
    names: nameFiles(config, { endpoints: [], gateway: undefined, hostSearch: [] }),
    connect: async () => {},
    [Symbol.asyncDispose]: async () => {},
  };
}

function namesOf(attached: readonly Attached[]): {
  endpoints: Attached['endpoint'][];
  gateway: string | undefined;
} {
  const [first] = attached;
  return {
    endpoints: attached.map(({ endpoint }) => endpoint),
    gateway: first?.network.gateway4.split('/', 1)[0],
  };
}

/** Name servers and search list of the caller; nothing from a file that is missing. */
export async function readResolvConf(
  files: CallerFiles,
  signal: AbortSignal,
): Promise<{ readonly servers: readonly string[]; readonly search: readonly string[] }> {
  const text = await files
    .readFile('/etc/resolv.conf', maxResolvConfBytes, signal)
    .catch((error: unknown) => {
      signal.throwIfAborted();
      if (isHrunError(error, 'HAND_FAILED')) return Buffer.alloc(0);
      throw error;
    });
  const lines = text
    .toString('utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/));
  const servers = lines.flatMap(([key, value = '']) =>
    key === 'nameserver' && readIp(value) ? [value] : [],
  );
  const search = lines.findLast(([key]) => key === 'search' || key === 'domain')?.slice(1) ?? [];
  return { servers, search };
}

/** @throws HrunError NOT_FOUND, or INVALID_ARGUMENT for what a network cannot give */
export function checkConnections(
  network: ContainerNetwork,
  { networkStore }: Pick<RuntimeDeps, 'networkStore'>,
): void {
  const { connections, ports } = network;
  for (const connection of connections) {
    const own = connection.network.startsWith(cniPrefix) || connection.network === userNetworkName;
    if (!own) networkStore.find(connection.network);
  }
  if (connections.length > 1) {
    throw new HrunError('INVALID_ARGUMENT', `a microVM has one network device, not ${connections.length}`, {
      hint: 'name one network',
    });
  }
  if (isUserNetwork(network)) checkUserNetwork(network);
  if (connections.length === 0 && ports.length > 0) {
    throw new HrunError('INVALID_ARGUMENT', 'ports cannot be published without a network', {
      hint: 'leave --network none, or --publish, away',
    });
  }
}
