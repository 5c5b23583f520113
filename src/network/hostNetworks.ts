import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { parseStateText } from '../base/stateFile.ts';
import type { NetNamespace } from '../sys/netNamespace.ts';
import type { Attached, AttachRequest, NewlyAttached } from './attachRequest.ts';
import type { Endpoint } from './endpoint.ts';
import { Fabric, type FabricDeps } from './fabric.ts';
import { findNamespace } from './findNamespace.ts';
import type { NetworkDefinition } from './networkDefinition.ts';
import type { Refusal } from './refusals.ts';

const FabricRecord = z.object({
  version: z.literal(1),
  netns: z.string(),
  settings: z.record(z.string(), z.string()),
});

/** The fabrics of all namespaces in which this daemon has guests. */
export class HostNetworks {
  readonly #directory: string;
  readonly #deps: FabricDeps;
  readonly #fabrics = new Map<string, Fabric>();
  readonly #users = new Map<string, number>();
  /** Of namespaces that an earlier daemon had something in. */
  readonly #earlier = new Map<string, z.infer<typeof FabricRecord>>();

  private constructor(directory: string, deps: FabricDeps) {
    this.#directory = directory;
    this.#deps = deps;
  }

  /** @param directory remembers in which namespaces there is something of ours; not kept over a boot of the host */
  static async open(directory: string, deps: FabricDeps): Promise<HostNetworks> {
    const networks = new HostNetworks(directory, deps);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    for (const file of await readdir(directory)) {
      const path = join(directory, file);
      const parsed = FabricRecord.safeParse(await readJson(path));
      if (parsed.success) networks.#earlier.set(parsed.data.netns, parsed.data);
      else await rm(path, { recursive: true, force: true });
    }
    return networks;
  }

  get endpoints(): Endpoint[] {
    return [...this.#fabrics.values()].flatMap((fabric) => fabric.endpoints);
  }

  /** @param netns of the caller; owned from now on. @throws HrunError as Fabric.attach */
  async attach(netns: NetNamespace, request: AttachRequest, signal: AbortSignal): Promise<NewlyAttached> {
    await using undo = new AsyncDisposableStack();
    const fabric = this.#use(netns, undo);
    const place = undo.use(await fabric.attach(request, signal));
    const owned = undo.move();
    return { ...place, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  }

  /**
   * Takes over the place of a guest that an earlier daemon attached and whose VMM still runs.
   * @returns undefined when its namespace is not to be found
   */
  adopt(endpoint: Endpoint, network: NetworkDefinition, vmPid: number): Attached | undefined {
    const netns = this.#fabrics.get(endpoint.netns)?.netns ?? findNamespace(endpoint.netns, [vmPid]);
    if (netns === undefined) {
      this.#deps.log.warn({ endpoint }, 'the network namespace of a container is not to be found');
      return undefined;
    }
    const owned = new AsyncDisposableStack();
    const place = owned.use(this.#use(netns, owned).adopt(endpoint, network));
    return { ...place, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  }

  /** After the last adoption: puts everything right that may have changed, and removes what is nobody's any more. */
  async settle(signal: AbortSignal): Promise<void> {
    for (const identity of this.#earlier.keys()) {
      if (this.#fabrics.has(identity)) continue;
      const netns = findNamespace(identity, []);
      if (netns !== undefined) this.#fabricOf(netns);
      else await rm(this.#recordPath(identity), { force: true });
    }
    this.#earlier.clear();
    await this.reapply(signal);
    for (const [identity, fabric] of this.#fabrics) {
      if (!this.#users.has(identity)) this.#forget(identity, fabric);
    }
  }

  /** Puts rules and bridges right in every namespace, after somebody else has changed them. */
  async reapply(signal: AbortSignal): Promise<void> {
    for (const fabric of this.#fabrics.values()) {
      try {
        await fabric.apply(signal);
      } catch (error) {
        signal.throwIfAborted();
        this.#deps.log.warn({ netns: fabric.netns.identity, err: error }, 'a network could not be put right');
      }
    }
  }

  async refusals(): Promise<Refusal[]> {
    return (await Promise.all([...this.#fabrics.values()].map((fabric) => fabric.refusals()))).flat();
  }

  /** The fabric of the namespace that a tap lies in. */
  fabricOfTap(tap: string): Fabric | undefined {
    return [...this.#fabrics.values()].find((fabric) =>
      fabric.endpoints.some((endpoint) => endpoint.tap === tap),
    );
  }

  /** Keeps the fabric, and with it the namespace, for as long as somebody uses it. */
  #use(netns: NetNamespace, undo: AsyncDisposableStack): Fabric {
    const fabric = this.#fabricOf(netns);
    const { identity } = fabric.netns;
    this.#users.set(identity, (this.#users.get(identity) ?? 0) + 1);
    undo.defer(() => {
      const left = (this.#users.get(identity) ?? 1) - 1;
      if (left > 0) return void this.#users.set(identity, left);
      this.#users.delete(identity);
      this.#forget(identity, fabric);
    });
    return fabric;
  }

  #forget(identity: string, fabric: Fabric): void {
    this.#fabrics.delete(identity);
    fabric.netns[Symbol.dispose]();
  }

  #fabricOf(netns: NetNamespace): Fabric {
    const { identity } = netns;
    const known = this.#fabrics.get(identity);
    if (known !== undefined) {
      if (known.netns !== netns) netns[Symbol.dispose]();
      return known;
    }
    const settings = this.#earlier.get(identity)?.settings;
    const fabric = new Fabric(netns, this.#recordPath(identity), this.#deps, settings);
    this.#fabrics.set(identity, fabric);
    return fabric;
  }

  #recordPath(identity: string): string {
    return join(this.#directory, `${identity.replace(':', '-')}.json`);
  }
}

async function readJson(path: string): Promise<unknown> {
  try {
    return parseStateText(await readFile(path, 'utf8'));
  } catch {
    return undefined;
  }
}
