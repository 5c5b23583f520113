import { z } from 'zod';
import { runtimeSpecSchema } from './runtimeSpec.ts';

/** Who applies a field: the agent inside the guest, the host, both, or nobody, with an error that names it. */
export type FieldPlace = 'guest' | 'host' | 'guest and host' | 'refused' | 'no effect';

export interface FieldEntry {
  readonly place: FieldPlace;
  readonly note: string;
}

function guest(note = ''): FieldEntry {
  return { place: 'guest', note };
}
function host(note = ''): FieldEntry {
  return { place: 'host', note };
}
function both(note: string): FieldEntry {
  return { place: 'guest and host', note };
}
function refused(note: string): FieldEntry {
  return { place: 'refused', note };
}
function noEffect(note: string): FieldEntry {
  return { place: 'no effect', note };
}

const noLeaf = 'cgroup v2 has none';

/**
 * Every field of config.json by its path, `[]` for the items of a list and `{}` for the values of an object with free keys.
 * An entry also holds for what lies below it and has none of its own.
 */
export const fieldTable: Readonly<Record<string, FieldEntry>> = {
  ociVersion: host('checked; a later version is taken as runc takes it, unknown fields are ignored'),
  root: both('the directory is the root of the share'),
  'root.readonly': both("read-only mount in the guest, read-only by the host's kernel below the share"),
  'mounts[].destination': guest('resolved beneath the root, links included; a missing one is made'),
  'mounts[].type': guest(
    "kernel file systems are the guest's; `cgroup` is `cgroup2`; one on a device is refused",
  ),
  'mounts[].source': both(
    "a bind is part of the share; `/proc`, `/sys`, `/sys/fs/cgroup` and `/dev/mqueue` are the guest's",
  ),
  'mounts[].options': both(
    "all of the spec's; read-only is enforced by the host too; propagation ends at the VM; those of a file system have no effect on a bind, as with runc; `idmap` and `ridmap` as below; `remount` is refused",
  ),
  'mounts[].uidMappings': host("an idmapped mount of the host's kernel below the share; of a bind only"),
  'mounts[].gidMappings': host('as uidMappings'),
  'process.terminal': both("the pty is the guest's, the console socket gets one of the host's"),
  'process.consoleSize': guest(),
  'process.user': guest(),
  'process.user.username': refused('for Windows'),
  'process.args': guest(),
  'process.commandLine': refused('for Windows'),
  'process.env': guest(),
  'process.cwd': guest(),
  'process.capabilities': guest('all five sets; unknown names are ignored'),
  'process.rlimits': guest(),
  'process.noNewPrivileges': guest(),
  'process.apparmorProfile': noEffect(
    "the guest's kernel has no AppArmor, and the host's processes run no code of the container",
  ),
  'process.oomScoreAdj': guest(),
  'process.scheduler': guest(),
  'process.selinuxLabel': noEffect(
    "the guest's kernel has no SELinux, and the host's processes run no code of the container",
  ),
  'process.ioPriority': guest(),
  'process.execCPUAffinity': guest('CPUs of the guest; for `exec` only'),
  hostname: guest(),
  domainname: guest(),
  'hooks.prestart': host("in the caller's namespaces, state on stdin"),
  'hooks.createRuntime': host('as prestart'),
  'hooks.createContainer': host("in the stand-in's namespaces"),
  'hooks.startContainer': guest('by the init process right before its execve'),
  'hooks.poststart': host('a failure stops the container'),
  'hooks.poststop': host('a failure is only logged'),
  annotations: host(
    '`org.hrun.vcpus`, `.memory`, `.kernel`, `.kernel-parameters` and `.share-cache` (docs/oci.md, "Size"); others are told in `state` and to hooks',
  ),
  'linux.uidMappings': guest(),
  'linux.gidMappings': guest(),
  'linux.sysctl': guest("all of the guest's kernel"),
  'linux.resources.devices': guest('device filter of the cgroup'),
  'linux.resources.memory.limit': both(
    'cgroup limit in the guest; sizes the VM; limit plus overhead on the host',
  ),
  'linux.resources.memory.reservation': guest('`memory.low`'),
  'linux.resources.memory.swap': guest('`memory.swap.max`, less the memory limit as runc converts it'),
  'linux.resources.memory.kernel': refused('the kernel no longer has it'),
  'linux.resources.memory.kernelTCP': refused('the kernel no longer has it'),
  'linux.resources.memory.swappiness': noEffect('the guest has no swap'),
  'linux.resources.memory.disableOOMKiller': refused('cgroup v2 cannot; `false` is fine'),
  'linux.resources.memory.useHierarchy': noEffect('always so in cgroup v2'),
  'linux.resources.memory.checkBeforeUpdate': guest(),
  'linux.resources.cpu.shares': both('`cpu.weight`, as runc converts it'),
  'linux.resources.cpu.quota': both('sets the number of vCPUs too'),
  'linux.resources.cpu.burst': guest(),
  'linux.resources.cpu.period': both(''),
  'linux.resources.cpu.realtimeRuntime': refused('cgroup v2 cannot'),
  'linux.resources.cpu.realtimePeriod': noEffect('without realtimeRuntime, which is refused'),
  'linux.resources.cpu.cpus': host('CPUs of the host, for the VM'),
  'linux.resources.cpu.mems': host('nodes of the host, for the VM'),
  'linux.resources.cpu.idle': guest(),
  'linux.resources.pids': guest('the host counts threads of QEMU, so the number is not applied there'),
  'linux.resources.blockIO': host('rates of devices of the host'),
  'linux.resources.blockIO.weight': both('on the host where it has BFQ'),
  'linux.resources.blockIO.weightDevice': host('where the host has BFQ'),
  'linux.resources.blockIO.leafWeight': refused(noLeaf),
  'linux.resources.blockIO.weightDevice[].leafWeight': noEffect(noLeaf),
  'linux.resources.hugepageLimits': guest('a size the guest does not have has no pages to limit'),
  'linux.resources.network': host('cgroup v1 only, as with runc'),
  'linux.resources.rdma': noEffect('the guest has no such device'),
  'linux.resources.unified': guest('files of the cgroup in the guest'),
  'linux.cgroupsPath': host('holds QEMU, its helpers and the stand-in'),
  'linux.namespaces': both(
    "pid, mount and ipc must be asked for; the network is the host's; a path joins the VM of its container",
  ),
  'linux.devices': guest(
    "those the guest's kernel serves, and nodes nobody may use; a device of the host that may be used is refused, or left out when all are allowed",
  ),
  'linux.netDevices': refused('a device of the host does not move into a microVM'),
  'linux.seccomp': guest('for the init process and every exec'),
  'linux.seccomp.listenerPath': refused('no descriptor crosses the border of a microVM'),
  'linux.seccomp.listenerMetadata': refused('there is no listener'),
  'linux.rootfsPropagation': guest(),
  'linux.maskedPaths': guest(),
  'linux.readonlyPaths': guest(),
  'linux.mountLabel': noEffect('as process.selinuxLabel'),
  'linux.intelRdt': refused("the host's cache and bandwidth allocation is not managed"),
  'linux.memoryPolicy': refused('the guest has one node of memory'),
  'linux.personality': guest(''),
  'linux.timeOffsets': guest(''),
  'vm.hypervisor': refused('which QEMU runs, and how, is for the host to say'),
  'vm.kernel': host('files that `bundleKernels` of the configuration lists; an initrd has to hold the agent'),
  'vm.image': refused("the guest's own root is built in"),
  'vm.hwConfig.vcpus': host('at most those of the host'),
  'vm.hwConfig.memory': host("the microVM's; instead of what the limits ask for"),
  'vm.hwConfig.deviceTree': refused('this kind of machine has none'),
  'vm.hwConfig.dtdevs': refused('this kind of machine has none'),
  'vm.hwConfig.iomems': refused('this kind of machine has none'),
  'vm.hwConfig.irqs': refused('this kind of machine has none'),
  solaris: refused('for another platform'),
  windows: refused('for another platform'),
  zos: refused('for another platform'),
  freebsd: refused('for another platform'),
};

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly items?: JsonSchema;
  readonly additionalProperties?: JsonSchema | boolean;
  readonly anyOf?: readonly JsonSchema[];
  readonly type?: string;
}

/** The paths of all fields that config.json can have, as the schema knows them; objects and lists only by their fields. */
export function fieldPaths(): string[] {
  const schema = z.toJSONSchema(runtimeSpecSchema, { io: 'input', unrepresentable: 'any', reused: 'inline' });
  return pathsBelow(schema as JsonSchema, '');
}

/** What is said of a field: its own entry or that of the nearest field above it. */
export function entryOf(path: string): FieldEntry | undefined {
  const entry = fieldTable[path];
  if (entry || path === '') return entry;
  const isCollection = path.endsWith('[]') || path.endsWith('{}');
  return entryOf(isCollection ? path.slice(0, -2) : path.slice(0, Math.max(0, path.lastIndexOf('.'))));
}

function pathsBelow(schema: JsonSchema, path: string): string[] {
  const { properties, items, additionalProperties, anyOf } = schema;
  if (anyOf) {
    const some = anyOf.filter(({ type }) => type !== 'null');
    return [...new Set(some.flatMap((one) => pathsBelow(one, path)))];
  }
  if (properties && Object.keys(properties).length > 0) {
    return Object.entries(properties).flatMap(([name, field]) =>
      pathsBelow(field, path === '' ? name : `${path}.${name}`),
    );
  }
  const isStructured = (inner: JsonSchema | undefined) =>
    inner !== undefined && pathsBelow(inner, 'x').some((below) => below !== 'x');
  if (items && isStructured(items)) return pathsBelow(items, `${path}[]`);
  if (typeof additionalProperties === 'object' && isStructured(additionalProperties)) {
    return pathsBelow(additionalProperties, `${path}{}`);
  }
  return [path];
}
