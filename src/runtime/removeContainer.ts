import type { ContainerId } from '../base/ids.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';

/** Forgets a container, and with `withVolumes` the volumes that were made for it without a name and that no other has. */
export async function removeContainer(
  id: ContainerId,
  { store, volumes }: Pick<RuntimeDeps, 'store' | 'volumes'>,
  { withVolumes }: { readonly withVolumes: boolean },
): Promise<void> {
  const { config } = store.known(id);
  await store.remove(id);
  if (!withVolumes) return;
  for (const { name, anonymous } of config.namedVolumes) {
    const shared = store
      .list()
      .some(({ config: other }) => other.namedVolumes.some((one) => one.name === name));
    if (anonymous && !shared && volumes.get(name) !== undefined) await volumes.remove(name);
  }
}
