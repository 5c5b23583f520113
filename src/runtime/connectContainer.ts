import { HrunError } from '../base/errors.ts';
import {
  type AttachedPlace,
  emptyInterface,
  guestInterfaces,
  mainPlace,
} from '../network/attachedInterface.ts';
import type { ContainerNetwork } from '../network/containerNetwork.ts';
import type { NetworkDefinition } from '../network/networkDefinition.ts';
import { mostNicSlots } from '../vmm/nicSlots.ts';
import { configureGuestNetwork } from './configureGuestNetwork.ts';
import { attachRequest, isAlone, placesOf, readResolvConf, tooManyNetworks } from './containerNetworking.ts';
import type { ContainerRecord } from './containerRecord.ts';
import type { LiveContainer } from './liveContainers.ts';
import type { NetworkCaller } from './networkCaller.ts';
import type { ConnectRequest } from './networkVerbs.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';

type Connection = ContainerNetwork['connections'][number];

/** Connects a container to a network: at once when it runs, and for its next starts. */
export async function connectContainer(
  { network, container, ...wish }: ConnectRequest,
  deps: RuntimeDeps,
  caller: NetworkCaller,
  signal: AbortSignal,
): Promise<void> {
  const definition = deps.networkStore.find(network);
  const { id } = deps.store.find(container);
  using _turn = await deps.live.networks.lock(id, signal);
  const record = deps.store.known(id);
  const { connections } = record.config.network;
  refuseConnection(record, definition, deps);
  const connection: Connection = { network: definition.name, ...wish, aliases: [...wish.aliases] };
  const live = deps.live.get(id);
  if (live !== undefined) await connectLive(live, record, connection, deps, caller, signal);
  await setConnections(record, [...connections, connection], deps);
}

/** @throws HrunError NOT_FOUND when it is not connected to it, in Docker's words */
export async function disconnectContainer(
  network: string,
  container: string,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<void> {
  const definition = deps.networkStore.find(network);
  const { id } = deps.store.find(container);
  using _turn = await deps.live.networks.lock(id, signal);
  const record = deps.store.known(id);
  const left = record.config.network.connections.filter((one) => !isOf(one, definition, deps));
  if (left.length === record.config.network.connections.length) {
    throw new HrunError(
      'NOT_FOUND',
      `container ${record.name} is not connected to network ${definition.name}`,
    );
  }
  const live = deps.live.get(id);
  const place = placesOf(record, deps).find((one) => one.network.id === definition.id);
  if (live !== undefined && place !== undefined) await disconnectLive(live, record, place, deps, signal);
  await setConnections(record, left, deps);
}

function refuseConnection(
  { name, config: { network } }: ContainerRecord,
  definition: NetworkDefinition,
  deps: RuntimeDeps,
): void {
  const { connections, sharedWith } = network;
  if (sharedWith !== undefined) {
    throw new HrunError(
      'WRONG_STATE',
      'container sharing network namespace with another container or host cannot be connected to any other network',
    );
  }
  if (connections.some((one) => isOf(one, definition, deps))) {
    throw new HrunError(
      'ALREADY_EXISTS',
      `endpoint with name ${name} already exists in network ${definition.name}`,
    );
  }
  const alone = connections.find((one) => isAlone(one.network));
  if (alone !== undefined) {
    throw new HrunError(
      'WRONG_STATE',
      `container ${name} is connected to network ${alone.network}, which goes with no other network`,
    );
  }
  const most = mostNicSlots(false);
  if (connections.length >= most) throw tooManyNetworks(connections.length + 1, most);
}

function isOf(
  { network }: Connection,
  { name, id }: NetworkDefinition,
  { networkStore }: RuntimeDeps,
): boolean {
  if (network === name) return true;
  // it may be named by its id
  return !isAlone(network) && networkStore.list().some((one) => one.id === id && id.startsWith(network));
}

async function connectLive(
  live: LiveContainer,
  record: ContainerRecord,
  connection: Connection,
  deps: RuntimeDeps,
  caller: NetworkCaller,
  signal: AbortSignal,
): Promise<void> {
  const { id, name, config } = record;
  const places = placesOf(record, deps);
  const slot = freeSlot(record, places);
  const network = deps.networkStore.find(connection.network);
  const { dns } = config.network;
  const upstream = dns.length > 0 ? dns : (await readResolvConf(caller.files, signal)).servers;
  const request = attachRequest({
    ...{ id, name, config, connection, network, upstream, slot },
    main: places.length === 0,
  });
  await using undo = new AsyncDisposableStack();
  const place = undo.use(await deps.networks.attach(caller.openNetns(), request, signal));
  using tap = place.tap;
  await live.guest.vm.plugNic(slot, { kind: 'tap', fd: tap.fd }, signal);
  undo.defer(() => live.guest.vm.unplugNic(slot, AbortSignal.timeout(live.guest.limits.agentTimeoutMs)));
  const interfaces = guestInterfaces([...places, place]).filter((one) => one.slot === slot);
  const { client } = await live.guest.agent(signal);
  await configureGuestNetwork(client, interfaces, signal);
  await deps.store.update(id, { endpoints: [...(record.state.endpoints ?? []), place.endpoint] });
  undo.move();
  // whoever waits for the end of the container finds its place given back
  const givenBack: Promise<void> = live.ended
    .then(() => place[Symbol.asyncDispose]())
    .catch((error: unknown) =>
      deps.log.error({ container: id, err: error }, 'a place in a network could not be given back'),
    )
    .finally(() => live.holders.delete(givenBack));
  live.holders.add(givenBack);
}

function freeSlot(
  { name, state: { nicSlots = 1 } }: ContainerRecord,
  places: readonly AttachedPlace[],
): number {
  const slots = Array.from({ length: nicSlots }, (_, slot) => slot);
  const free = slots.find((slot) => !places.some(({ endpoint }) => endpoint.slot === slot));
  if (free !== undefined) return free;
  const devices = nicSlots === 1 ? 'one network device' : `${nicSlots} network devices`;
  throw new HrunError('WRONG_STATE', `the microVM of container ${name} has ${devices}, which are in use`, {
    hint: `hrun stop ${name}, then connect it, and start it: it gets as many as it has networks`,
  });
}

async function disconnectLive(
  live: LiveContainer,
  record: ContainerRecord,
  place: AttachedPlace,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<void> {
  const places = placesOf(record, deps);
  const left = places.filter(({ endpoint }) => endpoint.tap !== place.endpoint.tap);
  await live.guest.vm.unplugNic(place.endpoint.slot, signal);
  const fabric = deps.networks.fabricOfTap(place.endpoint.tap);
  await fabric?.detach(place.endpoint.tap);
  const main = mainPlace(left);
  const endpoints = left.map(({ endpoint }) => endpoint);
  await deps.store.update(record.id, { endpoints });
  const { client } = await live.guest.agent(signal);
  // the way out is another one now
  const others = place.network.internal ? [] : guestInterfaces(left);
  await configureGuestNetwork(client, [emptyInterface(place), ...others], signal);
  const { ports } = place.endpoint;
  if (ports.length === 0 || main === undefined || fabric === undefined) return;
  const wishes = ports.map(({ hostPort, ...port }) => ({
    ...port,
    hostPorts: { first: hostPort, last: hostPort },
  }));
  const changed = await fabric.publish(main.endpoint.tap, wishes, signal);
  await deps.store.update(record.id, {
    endpoints: endpoints.map((one) => (one.tap === changed.tap ? changed : one)),
  });
}

async function setConnections(
  { id }: ContainerRecord,
  connections: Connection[],
  { store }: Pick<RuntimeDeps, 'store'>,
): Promise<void> {
  await store.configure(id, (config) => ({ ...config, network: { ...config.network, connections } }));
}
