import { HrunError } from '../base/errors.ts';
import { overlappingRoute } from '../network/bridge.ts';
import type { NetworkDefinition } from '../network/networkDefinition.ts';
import { connectContainer, disconnectContainer } from './connectContainer.ts';
import type { NetworkDetails, NetworkEngine } from './networkVerbs.ts';
import { publishPorts, unpublishPort } from './publishPorts.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';

/** What the verbs of networks mean. */
export function networkEngine(deps: RuntimeDeps): NetworkEngine {
  const { networks, networkStore, store } = deps;
  const members = (networkId: string): NetworkDetails['members'] =>
    store
      .list()
      .flatMap(({ id, name, state }) =>
        (state.endpoints ?? [])
          .filter((endpoint) => endpoint.networkId === networkId)
          .map((endpoint) => ({ containerId: id, containerName: name, endpoint })),
      );
  /** @throws HrunError NETWORK_IN_USE */
  function refuseActive(networkId: string, name: string): void {
    const active = members(networkId).map(({ containerName }) => containerName);
    if (active.length === 0) return;
    throw new HrunError('NETWORK_IN_USE', `network ${name} has active endpoints: ${active.join(', ')}`, {
      hint: 'stop these containers first',
    });
  }
  const isWanted = ({ name }: NetworkDefinition) =>
    store.list().some(({ config }) => config.network.connections.some(({ network }) => network === name));

  return {
    async create(request, caller) {
      using netns = caller.openNetns();
      return await networkStore.create(request, (range) => overlappingRoute(netns, range));
    },
    list: () => networkStore.list(),
    inspect: (name) => {
      const network = networkStore.find(name);
      return { network, members: members(network.id) };
    },
    async remove(name) {
      const damage = networkStore.findDamaged(name);
      if (damage !== undefined) {
        refuseActive(damage.name, damage.name.slice(0, 12));
        return await networkStore.removeDamaged(damage);
      }
      const network = networkStore.find(name);
      refuseActive(network.id, network.name);
      await networkStore.remove(network);
    },
    async prune() {
      const unused = networkStore
        .list()
        .filter((network) => network.id !== networkStore.builtIn.id && !isWanted(network));
      for (const network of unused) await networkStore.remove(network);
      return unused.map(({ name }) => name);
    },
    connect: (request, caller, signal) => connectContainer(request, deps, caller, signal),
    disconnect: (network, container, signal) => disconnectContainer(network, container, deps, signal),
    publish: (container, wishes, signal) => publishPorts(container, wishes, deps, signal),
    unpublish: (container, port, signal) => unpublishPort(container, port, deps, signal),
    async refusals(name) {
      const wanted = name === undefined ? undefined : networkStore.find(name).id;
      const places = store
        .list()
        .flatMap((record) =>
          (record.state.endpoints ?? []).map((endpoint) => ({ container: record.name, endpoint })),
        );
      const refusals = await networks.refusals();
      return refusals
        .flatMap((refusal) => {
          const place = places.find(({ endpoint }) =>
            [endpoint.ipv4, endpoint.ipv6].includes(refusal.source),
          );
          if (place === undefined || (wanted !== undefined && place.endpoint.networkId !== wanted)) return [];
          return [{ ...refusal, container: place.container, network: place.endpoint.network }];
        })
        .toSorted((a, b) => a.agoS - b.agoS);
    },
  };
}
