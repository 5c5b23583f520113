import type { GuestMount } from './guestRequest.ts';
import type { IdMappingSpec } from './linuxSpec.ts';
import type { MountSpec, RuntimeSpec } from './runtimeSpec.ts';
import { invalidField, unsupportedField } from './specFailure.ts';

/** A directory or file of the host that the container sees. */
export interface HostBind {
  /** Which entry of `mounts` it is. */
  readonly index: number;
  /** As in config.json: a relative one starts at the bundle. */
  readonly source: string;
  /** Absolute, inside the container. */
  readonly destination: string;
  readonly readonly: boolean;
  /** With everything that is mounted below the source. */
  readonly recursive: boolean;
  /** How the owners of its files are shown. */
  readonly idMap?: IdMap;
}

/** Owners of files: `containerID` is an id of the file system, `hostID` what it is shown as (an idmapped mount of Linux). */
export interface IdMap {
  readonly uids: readonly IdMappingSpec[];
  readonly gids: readonly IdMappingSpec[];
  /** `ridmap`: of what is mounted below too. */
  readonly recursive: boolean;
}

/** One entry of `mounts`, told apart by who has what it mounts. */
export type PlannedMount =
  | { readonly kind: 'bind'; readonly bind: HostBind; readonly options: string[] }
  | { readonly kind: 'kernel'; readonly mount: GuestMount };

/** File systems of the guest's kernel that need nothing of the host. */
const kernelTypes: ReadonlySet<string> = new Set([
  ...['proc', 'sysfs', 'tmpfs', 'ramfs', 'devpts', 'mqueue', 'cgroup', 'cgroup2', 'hugetlbfs', 'binfmt_misc'],
  ...['bpf', 'configfs', 'debugfs', 'tracefs', 'securityfs', 'fusectl', 'pstore', 'efivarfs'],
]);

/** Directories of the host that stand for its kernel: the container is to see its own kernel's instead. */
const kernelDirectories: ReadonlyMap<string, string> = new Map([
  ['/proc', 'proc'],
  ['/sys', 'sysfs'],
  ['/sys/fs/cgroup', 'cgroup2'],
  ['/dev/mqueue', 'mqueue'],
]);

/** In the order of config.json. @throws HrunError SPEC_INVALID, SPEC_UNSUPPORTED */
export function planMounts({ mounts, linux }: Pick<RuntimeSpec, 'mounts' | 'linux'>): PlannedMount[] {
  return mounts.map((mount, index) => planMount(mount, index, linux));
}

function planMount(mount: MountSpec, index: number, linux: RuntimeSpec['linux']): PlannedMount {
  const field = `mounts.${index}`;
  if (mount.destination === '') throw invalidField(`${field}.destination`, 'must not be empty');
  // Deprecated, and still taken by runc.
  const destination = mount.destination.startsWith('/') ? mount.destination : `/${mount.destination}`;
  if (mount.options.includes('remount'))
    throw unsupportedField(`${field}.options`, 'nothing is mounted there yet');
  const idMap = idMapOf(mount, linux, field);
  const options = mount.options.filter((option) => !['bind', 'idmap', 'ridmap'].includes(option));
  const isBind = mount.type === 'bind' || mount.options.some((option) => ['bind', 'rbind'].includes(option));
  if (!isBind) {
    if (idMap !== undefined) throw unsupportedField(field, 'only a bind can show other owners (idmap)');
    return { kind: 'kernel', mount: kernelMount(mount, destination, field) };
  }
  if (mount.source === '') throw invalidField(`${field}.source`, 'a bind needs a source');
  const type = kernelDirectories.get(withoutTrailingSlash(mount.source));
  if (type !== undefined) {
    const own = options.filter((option) => option !== 'rbind');
    return {
      kind: 'kernel',
      mount: { destination, options: own, source: { case: 'kernel', value: { type, source: type } } },
    };
  }
  const bind = {
    index,
    source: mount.source,
    destination,
    readonly: isReadonly(options),
    recursive: options.includes('rbind'),
    ...(idMap && { idMap }),
  };
  return { kind: 'bind', bind, options };
}

function kernelMount({ type, source, options }: MountSpec, destination: string, field: string): GuestMount {
  if (!kernelTypes.has(type)) {
    throw unsupportedField(
      `${field}.type`,
      `a file system ${JSON.stringify(type)} lies on a device or below directories of the host`,
      'mount it on the host and bind the directory',
    );
  }
  const value = { type: type === 'cgroup' ? 'cgroup2' : type, source: source === '' ? type : source };
  return { destination, options: [...options], source: { case: 'kernel', value } };
}

/** Without ranges of its own a mount that is to be mapped has those of the container's user namespace (config.md, "mounts"). */
function idMapOf(
  { options, uidMappings, gidMappings }: MountSpec,
  linux: RuntimeSpec['linux'],
  field: string,
): IdMap | undefined {
  const asked = options.findLast((option) => option === 'idmap' || option === 'ridmap');
  const own = uidMappings.length > 0 || gidMappings.length > 0;
  if (asked === undefined && !own) return undefined;
  const uids = own ? uidMappings : (linux?.uidMappings ?? []);
  const gids = own ? gidMappings : (linux?.gidMappings ?? []);
  if (uids.length === 0 || gids.length === 0) {
    throw invalidField(
      `${field}.uidMappings`,
      'an idmapped mount needs uidMappings and gidMappings, or a user namespace that has both',
    );
  }
  return { uids, gids, recursive: asked === 'ridmap' };
}

/** The later of two opposites wins. */
function isReadonly(options: readonly string[]): boolean {
  return options.findLast((option) => ['ro', 'rw', 'rro', 'rrw'].includes(option))?.endsWith('ro') ?? false;
}

function withoutTrailingSlash(path: string): string {
  return path.length > 1 ? path.replace(/\/+$/, '') : path;
}
