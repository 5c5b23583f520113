import { HrunError } from '../base/errors.ts';
import { attachedInterface } from '../network/attachedInterface.ts';
import type { ContainerNetwork } from '../network/containerNetwork.ts';
import { userNetworkName } from '../network/userNetwork.ts';
import { configureGuestNetwork } from './configureGuestNetwork.ts';
import { attachRequest, readResolvConf } from './containerNetworking.ts';
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
  const record = deps.store.find(container);
  if (record.config.network.sharedWith !== undefined) {
    throw new HrunError(
      'WRONG_STATE',
      'container sharing network namespace with another container or host cannot be connected to any other network',
    );
  }
  const [other] = record.config.network.connections;
  if (other !== undefined) {
    const known = other.network === definition.name;
    throw new HrunError(
      known ? 'ALREADY_EXISTS' : 'WRONG_STATE',
      known
        ? `endpoint with name ${record.name} already exists in network ${definition.name}`
        : `container ${record.name} is connected to network ${other.network}, and its microVM has one network device`,
      known || other.network === userNetworkName
        ? {}
        : { hint: `hrun network disconnect ${other.network} ${record.name}` },
    );
  }
  const connection: Connection = { network: definition.name, ...wish, aliases: [...wish.aliases] };
  const live = deps.live.get(record.id);
  if (live !== undefined) await connectLive(live, record, connection, deps, caller, signal);
  await setConnections(record, [connection], deps);
}

/** @throws HrunError NOT_FOUND when it is not connected to it, in Docker's words */
export async function disconnectContainer(
  network: string,
  container: string,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<void> {
  const definition = deps.networkStore.find(network);
  const record = deps.store.find(container);
  const { connections } = record.config.network;
  if (!connections.some((connection) => connection.network === definition.name)) {
    throw new HrunError(
      'NOT_FOUND',
      `container ${record.name} is not connected to network ${definition.name}`,
    );
  }
  const live = deps.live.get(record.id);
  const place = record.state.endpoints?.find(({ networkId }) => networkId === definition.id);
  if (live !== undefined && place !== undefined) {
    await live.guest.vm.unplugNic(0, signal);
    await deps.networks.fabricOfTap(place.tap)?.detach(place.tap);
    await deps.store.update(record.id, { endpoints: [] });
  }
  await setConnections(record, [], deps);
}

async function connectLive(
  live: LiveContainer,
  { id, name, config }: ContainerRecord,
  connection: Connection,
  deps: RuntimeDeps,
  caller: NetworkCaller,
  signal: AbortSignal,
): Promise<void> {
  const definition = deps.networkStore.find(connection.network);
  const { dns } = config.network;
  const upstream = dns.length > 0 ? dns : (await readResolvConf(caller.files, signal)).servers;
  const request = attachRequest({ id, name, config, connection, definition, upstream, first: true });
  await using undo = new AsyncDisposableStack();
  const place = undo.use(await deps.networks.attach(caller.openNetns(), request, signal));
  using tap = place.tap;
  await live.guest.vm.plugNic(0, { kind: 'tap', fd: tap.fd }, signal);
  const { client } = await live.guest.agent(signal);
  await configureGuestNetwork(client, [attachedInterface(place.endpoint, place.network, 'eth0')], signal);
  await deps.store.update(id, { endpoints: [place.endpoint] });
  const owned = undo.move();
  // whoever waits for the end of the container finds its place given back
  const givenBack: Promise<void> = live.ended
    .then(() => owned.disposeAsync())
    .catch((error: unknown) =>
      deps.log.error({ container: id, err: error }, 'a place in a network could not be given back'),
    )
    .finally(() => live.holders.delete(givenBack));
  live.holders.add(givenBack);
}

async function setConnections(
  { id }: ContainerRecord,
  connections: Connection[],
  { store }: Pick<RuntimeDeps, 'store'>,
): Promise<void> {
  await store.configure(id, (config) => ({ ...config, network: { ...config.network, connections } }));
}
