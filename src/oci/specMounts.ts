import type { GuestMount } from './guestRequest.ts';
import type { MountSpec } from './runtimeSpec.ts';
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
export function planMounts(mounts: readonly MountSpec[]): PlannedMount[] {
  return mounts.map((mount, index) => planMount(mount, index));
}

function planMount(mount: MountSpec, index: number): PlannedMount {
  const field = `mounts.${index}`;
  if (mount.destination === '') throw invalidField(`${field}.destination`, 'must not be empty');
  // Deprecated, and still taken by runc.
  const destination = mount.destination.startsWith('/') ? mount.destination : `/${mount.destination}`;
  refuseIdMap(mount, field);
  if (mount.options.includes('remount'))
    throw unsupportedField(`${field}.options`, 'nothing is mounted there yet');
  const options = mount.options.filter((option) => option !== 'bind');
  const isBind =
    mount.type === 'bind' || options.length < mount.options.length || mount.options.includes('rbind');
  if (!isBind) return { kind: 'kernel', mount: kernelMount(mount, destination, field) };
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

function refuseIdMap({ options, uidMappings, gidMappings }: MountSpec, field: string): void {
  const why = 'a file system of the host cannot be mapped inside the guest';
  if (options.includes('idmap') || options.includes('ridmap'))
    throw unsupportedField(`${field}.options`, why);
  if (uidMappings.length > 0) throw unsupportedField(`${field}.uidMappings`, why);
  if (gidMappings.length > 0) throw unsupportedField(`${field}.gidMappings`, why);
}

/** The later of two opposites wins. */
function isReadonly(options: readonly string[]): boolean {
  return options.findLast((option) => ['ro', 'rw', 'rro', 'rrw'].includes(option))?.endsWith('ro') ?? false;
}

function withoutTrailingSlash(path: string): string {
  return path.length > 1 ? path.replace(/\/+$/, '') : path;
}
