import { HrunError, isHrunError } from '../base/errors.ts';
import { type AttachedPlace, guestInterfaces, mainPlace } from '../network/attachedInterface.ts';
import type { Attached, NewlyAttached } from '../network/attachRequest.ts';
import type { ContainerNetwork } from '../network/containerNetwork.ts';
import { readIp } from '../network/ipAddress.ts';
import type { NetworkDefinition } from '../network/networkDefinition.ts';
import { userNetworkName } from '../network/userNetwork.ts';
import { mostNicSlots } from '../vmm/nicSlots.ts';
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
  const wanted = network.connections.map((connection) => ({
    connection,
    network: deps.networkStore.find(connection.network),
  }));
  const main = mainPlace(wanted);
  for (const [slot, place] of wanted.entries()) {
    const request = attachRequest({ id, name, config, ...place, upstream, slot, main: place === main });
    const taken = undo.use(await deps.networks.attach(caller.openNetns(), request, signal));
    undo.use(taken.tap);
    attached.push(taken);
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
      await configureGuestNetwork(client, guestInterfaces(attached), connecting);
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
  for (const { endpoint, network } of placesOf(record, deps)) {
    if (state.vm === undefined) continue;
    const place = deps.networks.adopt(endpoint, network, state.vm.pid);
    if (place !== undefined) owned.use(place);
  }
  return owned;
}

/** The places of a container in networks that are made of bridges. */
export function placesOf(
  { state }: ContainerRecord,
  { networkStore }: Pick<RuntimeDeps, 'networkStore'>,
): AttachedPlace[] {
  return (state.endpoints ?? []).flatMap((endpoint) => {
    const network = networkStore.list().find(({ id }) => id === endpoint.networkId);
    return network === undefined ? [] : [{ endpoint, network }];
  });
}

/** The place that a container asks for in one of its networks. */
export function attachRequest({
  id,
  name,
  config,
  connection,
  network,
  upstream,
  slot,
  main,
}: {
  readonly id: string;
  readonly name: string;
  readonly config: ContainerConfig;
  readonly connection: ContainerNetwork['connections'][number];
  readonly network: NetworkDefinition;
  readonly upstream: readonly string[];
  readonly slot: number;
  /** Whether ports lead to it. */
  readonly main: boolean;
}): Parameters<RuntimeDeps['networks']['attach']>[1] {
  const { aliases, ipv4, ipv6, mac } = connection;
  const { ports, egress, rateBytes } = config.network;
  const names = [name, ...aliases, id.slice(0, 12), config.hostname].map((text) => text.toLowerCase());
  return {
    network,
    container: id,
    slot,
    names: [...new Set(names)],
    ports: main ? ports : [],
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
  return {
    endpoints: attached.map(({ endpoint }) => endpoint),
    gateway: mainPlace(attached)?.network.gateway4.split('/', 1)[0],
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

/** Whether a container in this network can be in no other. */
export function isAlone(network: string): boolean {
  return network.startsWith(cniPrefix) || network === userNetworkName;
}

export function tooManyNetworks(wanted: number, most: number): HrunError {
  return new HrunError(
    'INVALID_ARGUMENT',
    `${wanted} networks are more than a microVM can have (${mostNicSlots(false)}, with directories of the host ${mostNicSlots(true)})`,
    { hint: `name at most ${most} networks` },
  );
}

/** @throws HrunError NOT_FOUND, or INVALID_ARGUMENT for what a network cannot give */
export function checkConnections(
  network: ContainerNetwork,
  { networkStore }: Pick<RuntimeDeps, 'networkStore'>,
): void {
  const { connections, ports } = network;
  const ids = connections.map((one) =>
    isAlone(one.network) ? one.network : networkStore.find(one.network).id,
  );
  const twice = connections.find((_, index) => ids.indexOf(ids[index] ?? '') !== index);
  if (twice !== undefined) {
    throw new HrunError('INVALID_ARGUMENT', `network "${twice.network}" is specified multiple times`);
  }
  const lonely = connections.find(({ network: name }) => isAlone(name));
  if (connections.length > 1 && lonely !== undefined) {
    throw new HrunError('INVALID_ARGUMENT', `network ${lonely.network} goes with no other network`);
  }
  const most = mostNicSlots(false);
  if (connections.length > most) throw tooManyNetworks(connections.length, most);
  if (isUserNetwork(network)) checkUserNetwork(network);
  if (cniNameOf(network) !== undefined && network.egress !== undefined) {
    throw new HrunError('INVALID_ARGUMENT', `network ${connections[0]?.network} knows no --egress`, {
      hint: 'what may be reached is the affair of its plugins',
    });
  }
  if (connections.length === 0 && ports.length > 0) {
    throw new HrunError('INVALID_ARGUMENT', 'ports cannot be published without a network', {
      hint: 'leave --network none, or --publish, away',
    });
  }
}
