import { posix } from 'node:path';
import type { RuntimeSpec } from '../../oci/runtimeSpec.ts';
import { type IdMap, planMounts } from '../../oci/specMounts.ts';
import type { StandInRequest } from '../callerFiles.ts';

/** Which directories and files of the caller a container needs, and what the guest finds them as. */
export interface SharePlan {
  readonly shares: StandInRequest['shares'];
  readonly mountPoints: NonNullable<StandInRequest['mountPoints']>;
  /** Name of the share that is the root file system. */
  readonly root: string;
  /** Names of the shares of bind mounts, by index in `mounts`. */
  readonly sources: ReadonlyMap<number, string>;
}

/**
 * Plans the stand-in's tree: the root file system and each bind mount as a share of its own.
 * @param bundle absolute directory that relative sources belong to
 * @param prefix keeps the names apart from those of other containers of the same microVM
 */
export function planShares(spec: RuntimeSpec, rootfs: string, bundle: string, prefix: string): SharePlan {
  const root = `${prefix}root`;
  const covered: string[] = [];
  const sources = new Map<number, string>();
  const mountPoints: { path: string; directory?: boolean; share?: string }[] = [];
  const shares: StandInRequest['shares'][number][] = [
    { name: root, path: rootfs, readonly: spec.root?.readonly === true, create: false, recursive: true },
  ];
  for (const planned of planMounts(spec)) {
    const { destination } = planned.kind === 'bind' ? planned.bind : planned.mount;
    const path = posix.normalize(destination);
    // What the guest mounts there itself hides what lies below it on the host.
    const visible = !covered.some((above) => isBelow(path, above));
    if (planned.kind === 'kernel') {
      covered.push(path);
      if (visible) mountPoints.push({ path, directory: true });
      continue;
    }
    const { index, source, readonly, recursive, idMap } = planned.bind;
    const name = `${prefix}${index}`;
    sources.set(index, name);
    if (visible) mountPoints.push({ path, share: name });
    const share = { name, path: posix.resolve(bundle, source), readonly, create: false, recursive };
    shares.push({ ...share, ...(visible && { at: path }), ...(idMap && { idMap: rangesOf(idMap) }) });
  }
  return { shares, mountPoints, root, sources };
}

function rangesOf({ uids, gids, recursive }: IdMap): NonNullable<SharePlan['shares'][number]['idMap']> {
  const ranges = (mappings: IdMap['uids']) =>
    mappings.map(({ containerID, hostID, size }) => [containerID, hostID, size] as const);
  return { uids: ranges(uids), gids: ranges(gids), recursive };
}

function isBelow(path: string, above: string): boolean {
  return path === above || path.startsWith(above === '/' ? '/' : `${above}/`);
}
