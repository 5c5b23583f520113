import { KeyedMutex } from '../../base/mutex.ts';
import type { ContainerConfig } from '../containerRecord.ts';

/**
 * A guest fills a volume that it finds empty: two at once would each find the other's half. Who may fill one takes its
 * turn, from before the container is made in the guest until it is.
 */
export class FillTurns {
  readonly #volumes = new KeyedMutex<string>();

  /** Disposing lets the next one in. @throws the reason of `signal` */
  async take(
    { namedVolumes }: Pick<ContainerConfig, 'namedVolumes'>,
    signal: AbortSignal,
  ): Promise<Disposable> {
    const names = namedVolumes.filter(({ nocopy, readonly }) => !nocopy && !readonly).map(({ name }) => name);
    using undo = new DisposableStack();
    // in one order for all, so that nobody waits for who waits for it
    for (const name of [...new Set(names)].toSorted()) undo.use(await this.#volumes.lock(name, signal));
    return undo.move();
  }
}
