import type { GuestContainer, GuestHook, GuestIdMapping, GuestSeccomp } from './guestRequest.ts';
import type { IdMappingSpec, LinuxSpec, SeccompSpec } from './linuxSpec.ts';
import type { HookSpec, RuntimeSpec } from './runtimeSpec.ts';
import { planDevices } from './specDevices.ts';
import { invalidField, refuseFields } from './specFailure.ts';
import { type HostBind, type PlannedMount, planMounts } from './specMounts.ts';
import { type HostNetwork, planNamespaces } from './specNamespaces.ts';
import { guestProcessOf } from './specProcess.ts';
import { guestResourcesOf } from './specResources.ts';
import { stateJson } from './stateJson.ts';
import { type HostVm, hostVmOf } from './vmSpec.ts';

/** What of a config.json the host decides first. Nothing of it has been looked at on the host yet. */
export interface HostPlan {
  /** `path` as in config.json: a relative one starts at the bundle. */
  readonly root: { readonly path: string; readonly readonly: boolean };
  readonly network: HostNetwork;
  /** Namespaces of another container that must live in the same microVM. */
  readonly joined: readonly { readonly type: string; readonly path: string }[];
  readonly vm: HostVm;
}

/** What the host has decided and the agent must know. */
export interface GuestContext {
  readonly containerId: string;
  /** As the manager calls it, for hooks. */
  readonly name: string;
  readonly bundle: string;
  readonly root: { readonly tag: string; readonly path: string };
  /** Where a bind lies in a share. */
  readonly bindSource: (bind: HostBind) => { readonly tag: string; readonly path: string };
  /** Whose namespace a path of `HostPlan.joined` is: the id of a container of the same guest. */
  readonly joinedContainer: (path: string) => string;
  readonly stdinOpen: boolean;
}

const propagations = ['shared', 'slave', 'private', 'unbindable'];

const hostHooks = ['prestart', 'createRuntime', 'createContainer', 'poststart', 'poststop'] as const;

/**
 * Checks a config.json, and answers what the host decides first.
 * @throws HrunError SPEC_INVALID, SPEC_UNSUPPORTED that names the field
 */
export function hostPlanOf(spec: RuntimeSpec): HostPlan {
  refuseForeign(spec);
  const { root, linux, process, hooks } = spec;
  if (root === undefined || root.path === '') throw invalidField('root.path', 'Root must be specified');
  if (process === undefined) throw invalidField('process', 'process property must not be empty');
  checkLinux(spec);
  const { network, joined } = planNamespaces(linux);
  // What they hold is read where it is needed, and refused here.
  planMounts(spec);
  for (const name of hostHooks) checkHooks(hooks?.[name], `hooks.${name}`);
  return { root, network, joined, vm: hostVmOf(spec) };
}

/** The agent's part. Call `hostPlanOf` first: it checks what both rely on. @throws as it */
export function guestContainerOf(spec: RuntimeSpec, context: GuestContext): GuestContainer {
  const { linux, process } = spec;
  if (process === undefined) throw invalidField('process', 'process property must not be empty');
  const { fresh, joined } = planNamespaces(linux);
  const planned = planMounts(spec);
  return {
    containerId: context.containerId,
    rootfs: { case: 'share', value: context.root },
    readonlyRootfs: spec.root?.readonly ?? false,
    hostname: spec.hostname,
    domainname: spec.domainname,
    mounts: planned.map((mount) =>
      mount.kind === 'kernel'
        ? mount.mount
        : {
            destination: mount.bind.destination,
            options: mount.options,
            source: { case: 'share' as const, value: context.bindSource(mount.bind) },
          },
    ),
    devices: planDevices(linux, isBound(planned, '/dev')),
    maskedPaths: linux?.maskedPaths ?? [],
    readonlyPaths: linux?.readonlyPaths ?? [],
    sysctl: linux?.sysctl ?? {},
    resources: linux?.resources === undefined ? {} : guestResourcesOf(linux.resources),
    process: guestProcessOf(process, { stdinOpen: context.stdinOpen }),
    namespaces: {
      namespaces: [
        ...fresh.map((type) => ({ type, containerId: '' })),
        ...joined.map(({ type, path }) => ({ type, containerId: context.joinedContainer(path) })),
      ],
    },
    uidMappings: (linux?.uidMappings ?? []).map(idMapping),
    gidMappings: (linux?.gidMappings ?? []).map(idMapping),
    timeOffsets: Object.entries(linux?.timeOffsets ?? {}).map(([clock, { secs, nanosecs }]) => ({
      clock,
      seconds: secs,
      nanoseconds: nanosecs,
    })),
    rootfsPropagation: linux?.rootfsPropagation ?? '',
    ...(linux?.seccomp && { seccomp: guestSeccomp(linux.seccomp) }),
    ...(linux?.personality && { personality: linux.personality }),
    startContainerHooks: checkHooks(spec.hooks?.startContainer, 'hooks.startContainer').map(guestHook),
    hookState: stateJson({
      ociVersion: spec.ociVersion,
      id: context.name,
      status: 'created',
      pid: undefined,
      bundle: context.bundle,
      annotations: spec.annotations,
    }),
  };
}

function refuseForeign({ solaris, windows, zos, freebsd, vm }: RuntimeSpec): void {
  const platform = 'is for another platform';
  refuseFields([
    ['solaris', solaris !== undefined, platform],
    ['windows', windows !== undefined, platform],
    ['zos', zos !== undefined, platform],
    ['freebsd', freebsd !== undefined, platform],
  ]);
  const { hwConfig } = vm ?? {};
  const hardware = 'this kind of machine has none';
  refuseFields([
    ['vm.hypervisor', vm?.hypervisor !== undefined, 'which QEMU runs, and how, is for the host to say'],
    ['vm.image', vm?.image !== undefined, "the guest's own root is built in"],
    ['vm.hwConfig.deviceTree', (hwConfig?.deviceTree ?? '') !== '', hardware],
    ['vm.hwConfig.dtdevs', (hwConfig?.dtdevs.length ?? 0) > 0, hardware],
    ['vm.hwConfig.iomems', (hwConfig?.iomems.length ?? 0) > 0, hardware],
    ['vm.hwConfig.irqs', (hwConfig?.irqs.length ?? 0) > 0, hardware],
  ]);
}

function checkLinux({ linux, hostname, domainname }: RuntimeSpec): void {
  if (linux === undefined) throw invalidField('linux', 'a container on Linux needs its namespaces');
  const has = (type: string) => linux.namespaces.find((namespace) => namespace.type === type);
  if (hostname !== '' && !has('uts')) {
    throw invalidField('hostname', 'unable to set hostname without a private UTS namespace');
  }
  if (domainname !== '' && !has('uts')) {
    throw invalidField('domainname', 'unable to set domainname without a private UTS namespace');
  }
  checkUserNamespace(linux, has('user'));
  if (Object.keys(linux.timeOffsets).length > 0 && !has('time')) {
    throw invalidField('linux.timeOffsets', 'time namespace offsets specified but no time namespace');
  }
  const clock = Object.keys(linux.timeOffsets).find((name) => name !== 'monotonic' && name !== 'boottime');
  if (clock !== undefined)
    throw invalidField('linux.timeOffsets', `no clock is called ${JSON.stringify(clock)}`);
  checkPropagation(linux.rootfsPropagation);
  if (linux.personality && !['LINUX', 'LINUX32'].includes(linux.personality.domain)) {
    throw invalidField('linux.personality.domain', `invalid personality domain ${linux.personality.domain}`);
  }
  if (linux.personality && linux.personality.flags.length > 0) {
    throw invalidField('linux.personality.flags', 'additional flags are not supported');
  }
  const resctrl = "the host's cache and bandwidth allocation is not managed";
  refuseFields([
    [
      'linux.seccomp.listenerPath',
      (linux.seccomp?.listenerPath ?? '') !== '',
      'no descriptor crosses the border of a microVM',
    ],
    [
      'linux.seccomp.listenerMetadata',
      (linux.seccomp?.listenerMetadata ?? '') !== '',
      'there is no listener',
    ],
    ['linux.intelRdt', linux.intelRdt !== undefined, resctrl],
    ['linux.memoryPolicy', linux.memoryPolicy !== undefined, 'the guest has one node of memory'],
    [
      'linux.netDevices',
      Object.keys(linux.netDevices).length > 0,
      'a device of the host does not move into a microVM',
    ],
  ]);
}

function checkUserNamespace(linux: LinuxSpec, namespace: { readonly path: string } | undefined): void {
  const mapped = linux.uidMappings.length > 0 || linux.gidMappings.length > 0;
  if (namespace === undefined) {
    if (mapped) {
      throw invalidField(
        'linux.uidMappings',
        "user namespace mappings specified, but user namespace isn't enabled in the config",
      );
    }
    return;
  }
  if (namespace.path === '' && (linux.uidMappings.length === 0 || linux.gidMappings.length === 0)) {
    throw invalidField('linux.uidMappings', 'user namespaces enabled, but no uid or gid mappings found');
  }
  const wrong = [...linux.uidMappings, ...linux.gidMappings].some(
    ({ containerID, hostID, size }) => size === 0 || containerID + size > 2 ** 32 || hostID + size > 2 ** 32,
  );
  if (wrong) throw invalidField('linux.uidMappings', 'a range is empty or goes beyond 2^32');
}

function checkPropagation(propagation: string): void {
  if (propagation === '' || propagations.includes(propagation)) return;
  if (propagation.startsWith('r') && propagations.includes(propagation.slice(1))) return;
  throw invalidField('linux.rootfsPropagation', `rootfsPropagation=${propagation} is not supported`);
}

function checkHooks(hooks: readonly HookSpec[] | undefined, field: string): readonly HookSpec[] {
  hooks?.forEach(({ path, timeout }, index) => {
    if (!path.startsWith('/'))
      throw invalidField(`${field}.${index}.path`, `${JSON.stringify(path)} is not absolute`);
    if (timeout !== undefined && timeout <= 0) {
      throw invalidField(`${field}.${index}.timeout`, 'must be greater than zero');
    }
  });
  return hooks ?? [];
}

function guestHook({ path, args, env, timeout }: HookSpec): GuestHook {
  return { path, args, env, timeoutS: timeout ?? 0 };
}

function guestSeccomp({ defaultErrnoRet, ...seccomp }: SeccompSpec): GuestSeccomp {
  return {
    defaultAction: seccomp.defaultAction,
    ...(defaultErrnoRet !== undefined && { defaultErrnoRet }),
    architectures: seccomp.architectures,
    flags: seccomp.flags,
    syscalls: seccomp.syscalls.map(({ errnoRet, names, action, args }) => ({
      names,
      action,
      ...(errnoRet !== undefined && { errnoRet }),
      args,
    })),
  };
}

function idMapping({ containerID, hostID, size }: IdMappingSpec): GuestIdMapping {
  return { containerId: containerID, hostId: hostID, size };
}

function isBound(planned: readonly PlannedMount[], destination: string): boolean {
  return planned.some(
    (mount) => mount.kind === 'bind' && mount.bind.destination.replace(/\/+$/, '') === destination,
  );
}
