import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { HrunError, isHrunError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Mutex } from '../base/mutex.ts';
import { writeStateFile } from '../base/stateFile.ts';
import type { NetNamespace } from '../sys/netNamespace.ts';
import { openTap } from '../sys/tap.ts';
import { type Attached, type AttachRequest, ipv4Only, type NewlyAttached } from './attachRequest.ts';
import {
  addPort,
  type ChangedSettings,
  enableForwarding,
  ensureBridge,
  hasIPv6,
  ownBridges,
  removeBridge,
  removePort,
  restoreSettings,
} from './bridge.ts';
import type { PortWish } from './containerNetwork.ts';
import type { Endpoint, PublishedPort } from './endpoint.ts';
import { tapPrefix } from './foreignFirewall.ts';
import { parsePrefix } from './ipAddress.ts';
import { chooseAddress } from './leases.ts';
import { macOf } from './macAddress.ts';
import type { NetworkDefinition } from './networkDefinition.ts';
import { listNft, runNft } from './nft.ts';
import { type ReservedPort, reservePort } from './portReservations.ts';
import { type Refusal, readRefusals } from './refusals.ts';
import { Resolver } from './resolver.ts';
import type { addressesIn } from './resolverAnswers.ts';
import { namedSet, refusedSet, removalCommands, rulesetCommands } from './ruleset.ts';
import { watchTable } from './watchTable.ts';

export interface FabricDeps {
  /** Marks bridges as ours. */
  readonly owner: string;
  /** Name of the firewall's tables, ours alone. */
  readonly table: string;
  readonly log: Pick<Log, 'debug' | 'warn'>;
}

type Found = ReturnType<typeof addressesIn>[number];

interface Place {
  readonly endpoint: Endpoint;
  readonly network: NetworkDefinition;
  readonly ports: readonly ReservedPort[];
}

/** Everything of ours in one network namespace of the host: bridges, taps, rules, resolvers, ports. */
export class Fabric {
  readonly netns: NetNamespace;
  readonly #deps: FabricDeps;
  readonly #recordPath: string;
  readonly #changes = new Mutex();
  readonly #places = new Map<string, Place>();
  readonly #resolvers = new Map<string, Resolver>();
  #settings: ChangedSettings;
  #hasTables = false;
  #watch: Disposable | undefined;
  #recorded: string | undefined;

  /**
   * @param netns owned from now on
   * @param recordPath remembers, for the next daemon, that there is something of ours in this namespace
   * @param settings of the namespace that an earlier daemon changed, with what they were
   */
  constructor(netns: NetNamespace, recordPath: string, deps: FabricDeps, settings: ChangedSettings = {}) {
    this.netns = netns;
    this.#deps = deps;
    this.#recordPath = recordPath;
    this.#settings = settings;
  }

  get endpoints(): Endpoint[] {
    return [...this.#places.values()].map(({ endpoint }) => endpoint);
  }

  /** @throws HrunError whatever was wrong with the request or the host; nothing is left behind then */
  async attach(request: AttachRequest, signal: AbortSignal): Promise<NewlyAttached> {
    try {
      return await this.#attach(request, signal);
    } catch (cause) {
      signal.throwIfAborted();
      if (cause instanceof HrunError) throw cause;
      throw new HrunError(
        'NETWORK_FAILED',
        `network ${request.network.name} cannot be joined: ${messageOf(cause)}`,
        {
          cause,
          hint: 'networks need /dev/net/tun and the rights of root; without them use --network none',
        },
      );
    }
  }

  async #attach(request: AttachRequest, signal: AbortSignal): Promise<NewlyAttached> {
    using _turn = await this.#changes.lock(signal);
    await using undo = new AsyncDisposableStack();
    const { network } = request;
    undo.defer(() => this.#tidy());
    await this.#prepare(network);
    const ports = undo.use(this.#reserve(request.ports, network));
    const endpoint: Endpoint = {
      ...this.#lease(request),
      ports: ports.reserved.map(({ port }) => port),
    };
    const tap = undo.use(this.netns.run(() => openTap(endpoint.tap)));
    addPort(this.netns, endpoint, network);
    this.#places.set(endpoint.tap, { endpoint, network, ports: ports.reserved });
    undo.defer(() => void this.#places.delete(endpoint.tap));
    await this.#apply();
    undo.move();
    return { ...this.#attached(endpoint, network), tap };
  }

  /** Takes over the place of a guest that an earlier daemon attached. `apply` puts it into force. */
  adopt(endpoint: Endpoint, network: NetworkDefinition): Attached {
    const ports = endpoint.ports.flatMap((port) => {
      const { hostPort, ...rest } = port;
      try {
        return [reservePort(this.netns, { ...rest, hostPorts: { first: hostPort, last: hostPort } })];
      } catch (error) {
        // somebody was quicker; the rules still lead to the guest
        this.#deps.log.warn({ port, err: error }, 'a published port could not be held again');
        return [];
      }
    });
    this.#places.set(endpoint.tap, { endpoint, network, ports });
    return this.#attached(endpoint, network);
  }

  /** Makes what is in the namespace what should be there: after adoption, or a reload of the host's firewall. */
  async apply(signal: AbortSignal): Promise<void> {
    using _turn = await this.#changes.lock(signal);
    const networks = new Map([...this.#places.values()].map(({ network }) => [network.id, network]));
    for (const network of networks.values()) await this.#prepare(network);
    await this.#tidy();
    if (this.#places.size > 0) await this.#apply();
  }

  /** What guests here were refused within the last hour, by the counters of the rules. */
  async refusals(): Promise<Refusal[]> {
    const lists = await Promise.all(
      ([4, 6] as const).map((family) =>
        listNft(this.netns, ['set', 'inet', this.#deps.table, refusedSet[family]]),
      ),
    );
    return lists.flatMap(readRefusals);
  }

  /** Gives a place back before its guest ends; nothing happens when it is given back already. */
  async detach(tap: string): Promise<void> {
    await this.#detach(tap);
  }

  /** Publishes further ports of a guest. @throws HrunError PORT_IN_USE; nothing has changed then */
  async publish(tap: string, wishes: readonly PortWish[], signal: AbortSignal): Promise<Endpoint> {
    using _turn = await this.#changes.lock(signal);
    const place = this.#placeOf(tap);
    using added = this.#reserve(wishes, place.network);
    const changed = await this.#changePorts(place, [...place.ports, ...added.reserved]);
    added.keep();
    return changed;
  }

  /** Stops publishing those of a guest's ports that `which` picks. */
  async unpublish(
    tap: string,
    which: (port: PublishedPort) => boolean,
    signal: AbortSignal,
  ): Promise<Endpoint> {
    using _turn = await this.#changes.lock(signal);
    const place = this.#placeOf(tap);
    const kept = place.ports.filter(({ port }) => !which(port));
    const changed = await this.#changePorts(place, kept);
    for (const port of place.ports) if (!kept.includes(port)) port[Symbol.dispose]();
    return changed;
  }

  async #changePorts(place: Place, ports: readonly ReservedPort[]): Promise<Endpoint> {
    const endpoint = { ...place.endpoint, ports: ports.map(({ port }) => port) };
    this.#places.set(endpoint.tap, { ...place, endpoint, ports });
    try {
      await this.#apply();
      return endpoint;
    } catch (error) {
      this.#places.set(endpoint.tap, place);
      throw error;
    }
  }

  #placeOf(tap: string): Place {
    const place = this.#places.get(tap);
    if (place === undefined) throw new HrunError('WRONG_STATE', 'the container is connected to no network');
    return place;
  }

  #attached(endpoint: Endpoint, network: NetworkDefinition): Attached {
    return { endpoint, network, [Symbol.asyncDispose]: () => this.#detach(endpoint.tap) };
  }

  async #detach(tap: string): Promise<void> {
    using _turn = await this.#changes.lock(never);
    const place = this.#places.get(tap);
    if (place === undefined) return;
    this.#places.delete(tap);
    for (const port of place.ports) port[Symbol.dispose]();
    removePort(this.netns, tap);
    await this.#tidy();
    if (this.#places.size > 0) await this.#apply();
  }

  async #prepare(network: NetworkDefinition): Promise<void> {
    const { owner } = this.#deps;
    await this.#record();
    ensureBridge(this.netns, network, owner);
    const families = new Set<4 | 6>([4, ...(this.#hasIPv6(network) ? [6 as const] : [])]);
    const changed = enableForwarding(this.netns, families);
    this.#settings = { ...changed, ...this.#settings };
    await this.#record();
    if (!this.#resolvers.has(network.id)) {
      const options = {
        network,
        endpoints: () => this.endpoints.filter(({ networkId }) => networkId === network.id),
        seenBy: (asker: Endpoint) => this.#seenBy(asker),
        named: (asker: Endpoint, found: readonly Found[]) => this.#allowNamed(asker, found),
        log: this.#deps.log,
      };
      this.#resolvers.set(network.id, Resolver.open(this.netns, options));
    }
  }

  /** Takes away what no guest needs any more; after the last one everything. */
  async #tidy(): Promise<void> {
    const used = new Map([...this.#places.values()].map(({ network }) => [network.bridge, network.id]));
    const usedIds = new Set(used.values());
    for (const [id, resolver] of this.#resolvers) {
      if (usedIds.has(id)) continue;
      resolver[Symbol.dispose]();
      this.#resolvers.delete(id);
    }
    if (used.size === 0) {
      this.#watch?.[Symbol.dispose]();
      this.#watch = undefined;
      await runNft(this.netns, removalCommands(this.#deps.table));
      this.#hasTables = false;
    }
    for (const bridge of ownBridges(this.netns, this.#deps.owner)) {
      if (!used.has(bridge)) removeBridge(this.netns, bridge, this.#deps.owner);
    }
    if (used.size > 0) return;
    restoreSettings(this.netns, this.#settings);
    this.#settings = {};
    await rm(this.#recordPath, { force: true });
    this.#recorded = undefined;
  }

  async #apply(): Promise<void> {
    const places = [...this.#places.values()];
    const networks = [...new Map(places.map(({ network }) => [network.id, network])).values()];
    const input = {
      table: this.#deps.table,
      networks,
      endpoints: places.map(({ endpoint }) => endpoint),
      resolvers: this.#resolvers,
    };
    if (this.#hasTables) {
      try {
        return await runNft(this.netns, rulesetCommands(input, 'again'));
      } catch (error) {
        // flushed by somebody else; another failure comes again
        if (!isHrunError(error, 'NETWORK_FAILED')) throw error;
      }
    }
    await runNft(this.netns, rulesetCommands(input, 'anew'));
    this.#hasTables = true;
    this.#watch ??= this.#watchSoon();
  }

  /** A container that only runs a command is gone before that. */
  #watchSoon(): Disposable {
    let watch: Disposable | undefined;
    const timer = setTimeout(() => {
      watch = watchTable(this.netns, this.#deps, () => this.apply(never));
    }, watchAfterMs);
    timer.unref();
    return {
      [Symbol.dispose]: () => {
        clearTimeout(timer);
        watch?.[Symbol.dispose]();
      },
    };
  }

  /** All in the networks of a guest, those of the network that it asks in first. */
  #seenBy({ container, networkId }: Endpoint): Endpoint[] {
    const all = this.endpoints;
    const own = all.filter((endpoint) => container !== undefined && endpoint.container === container);
    const ids = new Set([networkId, ...own.map((endpoint) => endpoint.networkId)]);
    return [...ids].flatMap((id) => all.filter((endpoint) => endpoint.networkId === id));
  }

  /** Until the names may mean something else, and a while longer for what was begun with them. */
  async #allowNamed({ ipv4, ipv6 }: Endpoint, found: readonly Found[]): Promise<void> {
    const commands = found.flatMap(({ address, ttlSeconds }) => {
      const family = address.includes(':') ? 6 : 4;
      const source = family === 4 ? ipv4 : ipv6;
      if (source === undefined) return [];
      const set = { family: 'inet', table: this.#deps.table, name: namedSet[family] };
      const timeout = Math.min(ttlSeconds, mostNamedSeconds) + extraNamedSeconds;
      const elem = [{ elem: { val: { concat: [source, address] }, timeout } }];
      // adding what is there would leave it its old end
      return (['add', 'delete', 'add'] as const).map((verb) => ({ [verb]: { element: { ...set, elem } } }));
    });
    if (commands.length > 0) await runNft(this.netns, commands);
  }

  async #record(): Promise<void> {
    const record = { version: 1, netns: this.netns.identity, settings: this.#settings };
    const recorded = JSON.stringify(record);
    if (recorded === this.#recorded) return;
    // a crash of the host leaves no namespace to remember
    await writeStateFile(this.#recordPath, record, { durable: false });
    this.#recorded = recorded;
  }

  #reserve(
    wishes: readonly PortWish[],
    network: NetworkDefinition,
  ): Disposable & { readonly reserved: readonly ReservedPort[]; keep(): void } {
    using undo = new DisposableStack();
    const leading = this.#hasIPv6(network) ? wishes : wishes.map((wish) => ipv4Only(wish, network));
    const reserved = leading.map((wish) => undo.use(reservePort(this.netns, wish)));
    const owned = undo.move();
    return { reserved, keep: () => void owned.move(), [Symbol.dispose]: () => owned.dispose() };
  }

  #lease({ network, mac, ipv4, ipv6, ...request }: AttachRequest): Omit<Endpoint, 'ports'> {
    const others = this.endpoints.filter(({ networkId }) => networkId === network.id);
    const tap = `${tapPrefix}${randomBytes(5).toString('hex')}`;
    const address = chooseAddress({
      gateway: parsePrefix(network.gateway4, 'the gateway'),
      taken: new Set(others.flatMap((other) => other.ipv4 ?? [])),
      network: network.name,
      ...(ipv4 !== undefined && { wanted: ipv4 }),
    });
    const { container, slot } = request;
    const leased = {
      ...{ network: network.name, networkId: network.id, netns: this.netns.identity },
      ...{ tap, container, slot },
    };
    const owned = {
      ...leased,
      // the same for the same address, so that nobody's ARP cache is wrong for long
      mac: mac ?? macOf(`${network.id}:${address}`),
      ipv4: address,
      names: [...request.names],
      upstream: [...request.upstream],
      ...(request.egress && { egress: request.egress }),
      ...(request.rateBytes !== undefined && { rateBytes: request.rateBytes }),
    };
    if (others.some((other) => other.mac === owned.mac)) {
      throw new HrunError(
        'ALREADY_EXISTS',
        `MAC address ${owned.mac} is already in use on network ${network.name}`,
      );
    }
    if (!this.#hasIPv6(network)) {
      if (ipv6 === undefined) return owned;
      throw new HrunError('INVALID_ARGUMENT', `network ${network.name} has no IPv6`);
    }
    const address6 = chooseAddress({
      gateway: parsePrefix(network.gateway6 ?? '', 'the gateway'),
      taken: new Set(others.flatMap((other) => other.ipv6 ?? [])),
      network: network.name,
      ...(ipv6 !== undefined && { wanted: ipv6 }),
    });
    return { ...owned, ipv6: address6 };
  }

  #hasIPv6({ gateway6 }: NetworkDefinition): boolean {
    return gateway6 !== undefined && hasIPv6(this.netns);
  }
}

const watchAfterMs = 1000;
const extraNamedSeconds = 60;
const mostNamedSeconds = 24 * 3600;
const never = new AbortController().signal;
