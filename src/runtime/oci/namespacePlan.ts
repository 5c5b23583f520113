import { readlink } from 'node:fs/promises';
import type { ContainerId } from '../../base/ids.ts';
import type { HostPlan } from '../../oci/containerPlan.ts';
import { unsupportedField } from '../../oci/specFailure.ts';
import type { CallerFiles, StandInRequest } from '../callerFiles.ts';
import type { OciDeps } from './ociDeps.ts';
import type { OciRecord } from './ociRecord.ts';

/** Names of namespaces in the runtime-spec that a stand-in has on the host, and their files in /proc/PID/ns. */
const onHost = { network: 'net', ipc: 'ipc', uts: 'uts', pid: 'pid' } as const;
type OnHost = keyof typeof onHost;

export interface NamespacePlan {
  /** For the stand-in. */
  readonly standIn: NonNullable<StandInRequest['namespaces']>;
  /** A container whose microVM this one joins. */
  readonly sandbox: OciRecord | undefined;
  /** By path: whose namespace it is. */
  readonly joined: ReadonlyMap<string, ContainerId>;
}

/**
 * What the namespaces mean for a microVM: a path that is a namespace of a living container of ours joins its microVM; a
 * network namespace of somebody else is where the stand-in lives; everything else cannot be.
 * @throws HrunError SPEC_UNSUPPORTED naming the field
 */
export async function placeNamespaces(
  { network, joined: wanted }: HostPlan,
  files: CallerFiles,
  deps: Pick<OciDeps, 'store'>,
  signal: AbortSignal,
): Promise<NamespacePlan> {
  if (await isHostNetwork(network, files, signal)) {
    throw unsupportedField(
      'linux.namespaces',
      'without a network namespace of its own the container would use the network of the host',
      'use a bridge network or none, or let another runtime have such containers: --host-network-runtime runc',
    );
  }
  const fresh = new Set<OnHost>(['network', 'ipc', 'uts', 'pid']);
  const join: { type: string; path: string }[] = [];
  const joined = new Map<string, ContainerId>();
  let sandbox: OciRecord | undefined;
  const networks = network.kind === 'path' ? [{ type: 'network', path: network.path }] : [];
  for (const { type, path } of [...networks, ...wanted]) {
    if (isOnHost(type)) fresh.delete(type);
    const owner = isOnHost(type) ? await ownerOf(type, path, files, deps, signal) : undefined;
    if (owner === undefined) {
      if (type !== 'network') {
        const what = `the ${type} namespace ${path} is no living container's of this runtime`;
        throw unsupportedField('linux.namespaces', what, 'a microVM cannot enter a namespace of the host');
      }
    } else {
      if (sandbox !== undefined && sandbox.sandbox !== owner.sandbox) {
        throw unsupportedField('linux.namespaces', 'they belong to containers in different microVMs');
      }
      sandbox = owner;
      joined.set(path, owner.id);
    }
    // A pid namespace is joined in the guest only: the stand-in is the init of its own.
    if (type === 'pid') fresh.add('pid');
    else join.push({ type, path });
  }
  return { standIn: { new: [...fresh], join }, sandbox, joined };
}

/**
 * Whether a container would be in the network of its caller: handed over to a microVM, its interfaces would be gone for
 * everybody there.
 */
export async function isHostNetwork(
  network: HostPlan['network'],
  files: CallerFiles,
  signal: AbortSignal,
): Promise<boolean> {
  if (network.kind !== 'path') return network.kind === 'host';
  const [given, own] = await Promise.all(
    [network.path, '/proc/self/ns/net'].map((path) => files.stat(path, { followLink: true }, signal)),
  );
  return given?.inode === own?.inode && given?.device === own?.device;
}

async function ownerOf(
  type: OnHost,
  path: string,
  files: CallerFiles,
  { store }: Pick<OciDeps, 'store'>,
  signal: AbortSignal,
): Promise<OciRecord | undefined> {
  const { inode } = await files.stat(path, { followLink: true }, signal);
  for (const record of store.list()) {
    if (record.standIn === undefined || record.status === 'stopped') continue;
    const found = await readlink(`/proc/${record.standIn.hostPid}/ns/${onHost[type]}`).catch(() => '');
    // Members that joined the namespace have it too: the first one is as good as any.
    if (found.endsWith(`[${inode}]`)) return record;
  }
  return undefined;
}

function isOnHost(type: string): type is OnHost {
  return type in onHost;
}
