import { HrunError } from '../base/errors.ts';
import { type CniWishes, cniCapabilities } from '../network/cni/cniCapabilities.ts';
import { findCniConfig } from '../network/cni/cniConfig.ts';
import { type CniRecord, type CniRun, cniAdd, cniCheck, cniDelete } from '../network/cni/cniNetwork.ts';
import { findNamespace } from '../network/findNamespace.ts';
import { plumbNamespace } from '../network/plumbNamespace.ts';
import { type NetNamespace, newNetNamespace } from '../sys/netNamespace.ts';
import { configureGuestNetwork } from './configureGuestNetwork.ts';
import type { ContainerRecord } from './containerRecord.ts';
import { nameFiles } from './guestNames.ts';
import type { ContainerNetworking, NetworkCaller } from './networkCaller.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';

type CniDeps = Pick<RuntimeDeps, 'config' | 'log' | 'store'>;

/**
 * Has CNI plugins make a namespace for a container, in the caller's, and hands its interface over to the guest.
 * @throws HrunError NOT_FOUND, INVALID_CONFIG, NETWORK_FAILED; what the plugins did is undone then
 */
export async function openCniNetworking(
  record: ContainerRecord,
  configName: string,
  resolvConf: { readonly servers: readonly string[]; readonly search: readonly string[] },
  deps: CniDeps,
  caller: NetworkCaller,
): Promise<ContainerNetworking> {
  const { id, config } = record;
  await using undo = new AsyncDisposableStack();
  const cniConfig = await findCniConfig(deps.config.cniConfigDir, configName);
  const host = undo.use(caller.openNetns());
  const netns = undo.use(newNetNamespace());
  const cni: CniRecord = {
    config: cniConfig,
    path: [...deps.config.cniPath],
    hostNetns: host.identity,
    netns: netns.identity,
    capabilities: cniCapabilities(cniConfig, wishesOf(record)),
    result: undefined,
  };
  // so that the next daemon undoes what this one could not
  await deps.store.update(id, { cni });
  const run = { host, containerId: id, netns };
  undo.defer(() => deleteOrTell(cni, run, deps));
  const result = await cniAdd(cni, run);
  await deps.store.update(id, { cni: { ...cni, result } });
  undo.defer(() =>
    deps.store.update(id, { cni: undefined }).then(
      () => {},
      () => {},
    ),
  );
  const plumbed = undo.use(plumbNamespace(netns));
  const { nics } = plumbed;
  if (nics.length === 0) throw new HrunError('NETWORK_FAILED', `CNI network ${configName} made no interface`);
  const servers = config.network.dns.length > 0 ? config.network.dns : resolvConf.servers;
  const withServers = { ...config, network: { ...config.network, dns: [...servers] } };
  const owned = undo.move();
  return {
    names: nameFiles(withServers, { endpoints: [], gateway: undefined, hostSearch: resolvConf.search }),
    async connect(guest, signal) {
      const { nicSlots = 1 } = deps.store.known(id).state;
      if (nics.length > nicSlots) throw tooMany(configName, nics.length, nicSlots);
      for (const [slot, { tap }] of nics.entries()) {
        await guest.vm.plugNic(slot, { kind: 'tap', fd: tap.fd }, signal);
        tap[Symbol.dispose]();
      }
      const { client } = await guest.agent(signal);
      const interfaces = nics.map((nic) => nic.guest);
      await configureGuestNetwork(client, interfaces, signal);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** What an earlier daemon had plugins make for a container; disposing has them undo it. */
export function adoptCniNetworking(
  { id, state }: ContainerRecord,
  deps: CniDeps,
): AsyncDisposable | undefined {
  const { cni, vm } = state;
  if (cni === undefined) return undefined;
  const host = findNamespace(cni.hostNetns, []);
  if (host === undefined) return undefined;
  const netns = findNamespace(cni.netns, vm === undefined ? [] : [vm.pid]);
  if (vm !== undefined && cni.result !== undefined) {
    cniCheck(cni, { host, containerId: id, netns }).catch((error: unknown) =>
      deps.log.warn({ container: id, err: error }, 'a CNI plugin finds its work changed'),
    );
  }
  return { [Symbol.asyncDispose]: () => undo(id, cni, host, netns, deps) };
}

async function undo(
  id: ContainerRecord['id'],
  cni: CniRecord,
  host: NetNamespace,
  netns: NetNamespace | undefined,
  deps: CniDeps,
): Promise<void> {
  await deleteOrTell(cni, { host, containerId: id, netns }, deps);
  netns?.[Symbol.dispose]();
  host[Symbol.dispose]();
}

/** A container ends whatever its plugins say. */
async function deleteOrTell(cni: CniRecord, run: CniRun, { log }: CniDeps): Promise<void> {
  await cniDelete(cni, run).catch((error: unknown) =>
    log.warn({ container: run.containerId, err: error }, 'a CNI plugin could not undo its work'),
  );
}

function tooMany(network: string, count: number, most: number): HrunError {
  return new HrunError(
    'NETWORK_FAILED',
    `CNI network ${network} made ${count} interfaces, and the microVM has ${most} network devices`,
  );
}

function wishesOf(record: ContainerRecord): CniWishes {
  const { connections, rateBytes } = record.config.network;
  const [{ aliases = [], ipv4, ipv6, mac } = {}] = connections;
  const addresses = [ipv4, ipv6].flatMap((address) => address ?? []);
  return { ports: fixedPorts(record), aliases, addresses, mac, rateBytes };
}

/** Plugins choose no ports. @throws HrunError INVALID_ARGUMENT */
function fixedPorts({ config }: ContainerRecord): {
  hostIp: string;
  hostPort: number;
  guestPort: number;
  protocol: 'tcp' | 'udp' | 'sctp';
}[] {
  return config.network.ports.map(({ hostPorts, ...port }) => {
    if (hostPorts !== undefined) return { ...port, hostPort: hostPorts.first };
    throw new HrunError(
      'INVALID_ARGUMENT',
      `port ${port.guestPort} needs a port of the host in a CNI network`,
    );
  });
}
