import { readFile, rename } from 'node:fs/promises';
import { z } from 'zod';
import { writeFileAtomically } from '../../base/atomicFile.ts';
import { reasonOf } from '../../base/damage.ts';
import { errnoOf, HrunError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { Mutex } from '../../base/mutex.ts';
import { identifyProcess, isAlive } from '../../sys/processes.ts';
import type { HandedOverContainers, OciName } from './ociEngine.ts';

/** A change is short and is never given up. */
const never = new AbortController().signal;

const FileSchema = z.object({
  version: z.literal(1),
  containers: z.array(
    z.object({
      scope: z.string(),
      id: z.string(),
      runtime: z.string(),
      maker: z.object({ pid: z.int(), startTicks: z.string() }),
    }),
  ),
});

type Entry = z.infer<typeof FileSchema>['containers'][number];

/**
 * Which containers another runtime was given, because they want the host's network, so that every later verb goes there
 * too. One that is written down need not exist: whether it was made, and is still there, only its runtime knows.
 */
export class HandedOver implements HandedOverContainers {
  readonly #path: string;
  readonly #turns = new Mutex();
  #entries: readonly Entry[];

  private constructor(path: string, entries: readonly Entry[]) {
    this.#path = path;
    this.#entries = entries;
  }

  /** A file that cannot be read is put aside, and told: other containers are served. */
  static async open(path: string, log: Pick<Log, 'error'>): Promise<HandedOver> {
    try {
      return new HandedOver(path, FileSchema.parse(JSON.parse(await readFile(path, 'utf8'))).containers);
    } catch (cause) {
      if (errnoOf(cause) === 'ENOENT') return new HandedOver(path, []);
      const kept = `${path}.damaged`;
      await rename(path, kept);
      const reason = reasonOf(cause);
      log.error({ path: kept, reason }, 'which containers another runtime was given cannot be read');
      return new HandedOver(path, []);
    }
  }

  runtimeOf(name: OciName): string | undefined {
    return this.#entries.find((entry) => isOf(entry, name))?.runtime;
  }

  async inScope(
    scope: string,
  ): Promise<{ readonly id: string; readonly runtime: string; readonly underWay: boolean }[]> {
    const entries = this.#entries.filter((entry) => entry.scope === scope);
    return await Promise.all(
      entries.map(async ({ id, runtime, maker }) => ({ id, runtime, underWay: await isAlive(maker) })),
    );
  }

  async add({ scope, id }: OciName, runtime: string, makerPid: number): Promise<void> {
    const maker = await identifyProcess(makerPid);
    if (maker === undefined) throw new HrunError('CANCELLED', 'the front door is gone');
    await this.#change((entries) => [
      ...entries.filter((entry) => !isOf(entry, { scope, id })),
      { scope, id, runtime, maker },
    ]);
  }

  async forget(name: OciName): Promise<void> {
    await this.#change((entries) => entries.filter((entry) => !isOf(entry, name)));
  }

  async #change(change: (entries: readonly Entry[]) => readonly Entry[]): Promise<void> {
    using _turn = await this.#turns.lock(never);
    const containers = change(this.#entries);
    // The run directory does not outlive the host, and neither do these containers.
    await writeFileAtomically(this.#path, JSON.stringify({ version: 1, containers }), { durable: false });
    this.#entries = containers;
  }
}

function isOf(entry: Entry, { scope, id }: OciName): boolean {
  return entry.scope === scope && entry.id === id;
}
