import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Damage, damageError, damageOf, hintOf } from '../base/damage.ts';
import { HrunError } from '../base/errors.ts';
import { parseStateText, writeStateFile } from '../base/stateFile.ts';
import {
  addressAt,
  formatIp,
  formatPrefix,
  type IpPrefix,
  networkOf,
  overlaps,
  parsePrefix,
} from './ipAddress.ts';
import { type NetworkDefinition, NetworkDefinitionSchema } from './networkDefinition.ts';
import { userNetworkName } from './userNetwork.ts';

export interface NetworkRequest {
  readonly name: string;
  /** Ranges, at most one of each family; without one of IPv4 a free one is chosen. */
  readonly subnets: readonly IpPrefix[];
  /** Addresses in the ranges; without one the first of its range. */
  readonly gateways: readonly string[];
  /** Choose a range of IPv6 too when none is given. */
  readonly ipv6: boolean;
  readonly internal: boolean;
  readonly mtu: number;
  readonly labels: Readonly<Record<string, string>>;
}

/** Docker's own pools, but for the first of each, which may be Docker's. */
const pools = [
  ...Array.from({ length: 13 }, (_, index) => `172.${index + 19}.0.0/16`),
  ...Array.from({ length: 15 }, (_, index) => `192.168.${(index + 1) * 16}.0/20`),
];
const reservedNames = ['host', 'none', 'default', 'container', userNetworkName];
const leastHosts = { 4: 30, 6: 126 } as const;

/** The networks there are: the built-in one and the user's, one file each. */
export class NetworkStore {
  readonly builtIn: NetworkDefinition;
  readonly #directory: string;
  readonly #networks = new Map<string, NetworkDefinition>();
  /** By id. */
  readonly #damages = new Map<string, Damage>();

  private constructor(directory: string, builtIn: NetworkDefinition) {
    this.#directory = directory;
    this.builtIn = builtIn;
  }

  /** One that cannot be read is among the `damages`. */
  static async open(directory: string, builtIn: NetworkDefinition): Promise<NetworkStore> {
    const store = new NetworkStore(directory, builtIn);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    for (const file of await readdir(directory)) {
      const path = join(directory, file);
      // a temporary file of a write that did not end
      const [, id] = /^([0-9a-f]{64})\.json$/.exec(file) ?? [];
      if (id === undefined) {
        await rm(path, { recursive: true, force: true });
        continue;
      }
      try {
        const network = NetworkDefinitionSchema.parse(parseStateText(await readFile(path, 'utf8')));
        store.#networks.set(network.id, network);
      } catch (cause) {
        store.#damages.set(id, damageOf('network', id, path, cause));
      }
    }
    return store;
  }

  list(): NetworkDefinition[] {
    return [this.builtIn, ...this.#networks.values()];
  }

  /** Networks that are there and cannot be read. */
  get damages(): readonly Damage[] {
    return [...this.#damages.values()];
  }

  /** By name, id, or a part of the id that only it begins with. @throws HrunError NOT_FOUND in Docker's words, STATE_DAMAGED */
  find(nameOrId: string): NetworkDefinition {
    const all = this.list();
    const exact = all.find(({ name, id }) => name === nameOrId || id === nameOrId);
    if (exact !== undefined) return exact;
    const begun = nameOrId === '' ? [] : all.filter(({ id }) => id.startsWith(nameOrId));
    if (begun.length === 1 && begun[0] !== undefined) return begun[0];
    const damage = this.findDamaged(nameOrId);
    if (damage !== undefined) throw damageError(damage);
    throw new HrunError('NOT_FOUND', `network ${nameOrId} not found`, hintOf(this.damages));
  }

  /** By id or a part of the id that only it begins with; a name goes before a part of an id. */
  findDamaged(id: string): Damage | undefined {
    if (this.list().some((network) => network.name === id || network.id.startsWith(id))) return undefined;
    const [only, second] = id === '' ? [] : this.damages.filter(({ name }) => name.startsWith(id));
    return second === undefined ? only : undefined;
  }

  async removeDamaged({ name, path }: Damage): Promise<void> {
    await rm(path, { recursive: true, force: true });
    this.#damages.delete(name);
  }

  /**
   * @param routed whether a range overlaps a route of the asking namespace, and which
   * @throws HrunError ALREADY_EXISTS, INVALID_ARGUMENT
   */
  async create(
    request: NetworkRequest,
    routed: (range: IpPrefix) => string | undefined,
  ): Promise<NetworkDefinition> {
    const { name, internal, mtu, labels } = request;
    if (this.list().some((network) => network.name === name)) {
      throw new HrunError('ALREADY_EXISTS', `network with name ${name} already exists`);
    }
    if (reservedNames.includes(name)) {
      throw new HrunError('INVALID_ARGUMENT', `operation is not permitted on predefined ${name} network`);
    }
    const id = randomBytes(32).toString('hex');
    const gateway4 = this.#gatewayOf(4, request, id, routed);
    const gateway6 = this.#gatewayOf(6, request, id, routed);
    const network: NetworkDefinition = {
      version: 1,
      id,
      name,
      createdAt: new Date().toISOString(),
      bridge: `hr-${id.slice(0, 12)}`,
      gateway4: gateway4 ?? '',
      ...(gateway6 !== undefined && { gateway6 }),
      internal,
      mtu,
      labels: { ...labels },
    };
    await writeStateFile(this.#pathOf(id), network);
    this.#networks.set(id, network);
    return network;
  }

  async remove({ id, name }: NetworkDefinition): Promise<void> {
    if (id === this.builtIn.id) {
      throw new HrunError('INVALID_ARGUMENT', `${name} is a pre-defined network and cannot be removed`);
    }
    await rm(this.#pathOf(id), { force: true });
    this.#networks.delete(id);
  }

  #gatewayOf(
    family: 4 | 6,
    { subnets, gateways, ipv6 }: NetworkRequest,
    id: string,
    routed: (range: IpPrefix) => string | undefined,
  ): string | undefined {
    const given = subnets.filter(({ base }) => base.family === family);
    if (given.length > 1) {
      throw new HrunError('INVALID_ARGUMENT', `a network has one range of IPv${family}, not ${given.length}`);
    }
    const range = given[0] ?? this.#chooseRange(family, id, ipv6, routed);
    const wanted = gateways.map((text) => parsePrefix(text, 'the gateway').base);
    const gateway = wanted.find((address) => address.family === family);
    if (range === undefined) {
      if (gateway === undefined) return undefined;
      throw new HrunError('INVALID_ARGUMENT', `gateway ${formatIp(gateway)} is in no range of the network`);
    }
    this.#refuse(range, given.length > 0 ? routed(range) : undefined);
    const own = { base: gateway ?? addressAt(range, 1n), length: range.length };
    if (!overlaps({ base: own.base, length: family === 4 ? 32 : 128 }, range)) {
      throw new HrunError(
        'INVALID_ARGUMENT',
        `gateway ${formatIp(own.base)} is not in the range ${formatPrefix(range)}`,
      );
    }
    return formatPrefix(own);
  }

  #refuse(range: IpPrefix, route: string | undefined): void {
    const text = formatPrefix(networkOf(range));
    if (range.length > leastHosts[range.base.family]) {
      throw new HrunError('INVALID_ARGUMENT', `the range ${text} is too small for a network`);
    }
    if (formatIp(range.base) !== formatIp(networkOf(range).base)) {
      throw new HrunError('INVALID_ARGUMENT', `the range ${formatPrefix(range)} begins at ${text}`);
    }
    const other = this.list().find((network) => rangesOf(network).some((used) => overlaps(used, range)));
    const by = other === undefined ? route : `network ${other.name}`;
    if (by !== undefined) {
      throw new HrunError(
        'INVALID_ARGUMENT',
        `Pool overlaps with other one on this address space: ${text} and ${by}`,
      );
    }
  }

  #chooseRange(
    family: 4 | 6,
    id: string,
    ipv6: boolean,
    routed: (range: IpPrefix) => string | undefined,
  ): IpPrefix | undefined {
    if (family === 6) {
      // RFC 4193: forty random bits make it unique enough
      return ipv6
        ? parsePrefix(`fd${id.slice(0, 2)}:${id.slice(2, 6)}:${id.slice(6, 10)}::/64`, 'a range')
        : undefined;
    }
    const used = this.list().flatMap(rangesOf);
    const free = pools
      .map((text) => parsePrefix(text, 'a range'))
      .find((range) => !used.some((other) => overlaps(other, range)) && routed(range) === undefined);
    if (free !== undefined) return free;
    throw new HrunError('NETWORK_FAILED', 'no range of private addresses is left for a network', {
      hint: 'name one with --subnet',
    });
  }

  #pathOf(id: string): string {
    return join(this.#directory, `${id}.json`);
  }
}

function rangesOf({ gateway4, gateway6 }: NetworkDefinition): IpPrefix[] {
  return [gateway4, ...(gateway6 === undefined ? [] : [gateway6])].map((text) =>
    parsePrefix(text, 'the gateway'),
  );
}
