import { HrunError } from '../base/errors.ts';
import { mainPlace } from '../network/attachedInterface.ts';
import type { PortWish } from '../network/containerNetwork.ts';
import type { Endpoint, PublishedPort } from '../network/endpoint.ts';
import type { Fabric } from '../network/fabric.ts';
import { userNetworkName } from '../network/userNetwork.ts';
import { placesOf } from './containerNetworking.ts';
import type { ContainerRecord } from './containerRecord.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';

type PortDeps = Pick<RuntimeDeps, 'networks' | 'networkStore' | 'store'>;

/** Publishes ports of a running container, and keeps them for its next start. Answers those that are new. */
export async function publishPorts(
  container: string,
  wishes: readonly PortWish[],
  deps: PortDeps,
  signal: AbortSignal,
): Promise<readonly PublishedPort[]> {
  const record = deps.store.find(container);
  const { fabric, endpoint } = placeOf(record, deps);
  const changed = await fabric.publish(endpoint.tap, wishes, signal);
  await keep(record, changed, deps);
  return changed.ports.slice(endpoint.ports.length);
}

/** @param port of the container: `80` or `80/udp` */
export async function unpublishPort(
  container: string,
  port: string,
  deps: PortDeps,
  signal: AbortSignal,
): Promise<void> {
  const record = deps.store.find(container);
  const { fabric, endpoint } = placeOf(record, deps);
  const [number, protocol = 'tcp'] = port.toLowerCase().split('/');
  const isIt = (of: PublishedPort) => String(of.guestPort) === number && of.protocol === protocol;
  if (!endpoint.ports.some(isIt)) {
    throw new HrunError('NOT_FOUND', `no public port '${port}' published for ${container}`);
  }
  await keep(record, await fabric.unpublish(endpoint.tap, isIt, signal), deps);
}

function placeOf(
  record: ContainerRecord,
  { networks, networkStore }: PortDeps,
): { readonly fabric: Fabric; readonly endpoint: Endpoint } {
  const { name, state } = record;
  const endpoint = mainPlace(placesOf(record, { networkStore }))?.endpoint;
  const fabric = endpoint && networks.fabricOfTap(endpoint.tap);
  if (fabric !== undefined && endpoint !== undefined) return { fabric, endpoint };
  if (state.endpoints?.[0]?.network === userNetworkName) {
    throw new HrunError(
      'WRONG_STATE',
      `ports of network ${userNetworkName} are published when the container starts, not later`,
      { hint: 'use --publish with run or create' },
    );
  }
  throw new HrunError('WRONG_STATE', `container ${name} does not run in a network`, {
    hint: 'ports of a container that is to be made are published with --publish',
  });
}

async function keep({ id, state }: ContainerRecord, endpoint: Endpoint, { store }: PortDeps): Promise<void> {
  const endpoints = (state.endpoints ?? []).map((one) => (one.tap === endpoint.tap ? endpoint : one));
  await store.update(id, { endpoints });
  const ports = endpoint.ports.map(({ hostPort, ...port }) => ({
    ...port,
    hostPorts: { first: hostPort, last: hostPort },
  }));
  await store.configure(id, (config) => ({ ...config, network: { ...config.network, ports } }));
}
