import type { CreateContainerInit, MountInit, ProcessInit } from '../agent/types.ts';
import { effectiveCapabilities } from '../oci/capabilities.ts';
import {
  defaultCapabilities,
  defaultDevices,
  defaultMounts,
  type KernelMount,
  maskedPaths,
  readonlyPaths,
} from '../oci/defaults.ts';
import type { TerminalSize } from './attachIo.ts';
import type { ContainerConfig, ContainerRecord } from './containerRecord.ts';
import type { NameFiles } from './guestNames.ts';

const cpuPeriodUs = 100_000;

/** The image's disk and the writable one, by their serial numbers. */
export interface GuestRoot {
  readonly imageSerial: string;
  readonly imageFs: string;
  readonly scratchSerial: string;
}

/**
 * What the agent is asked to make of a container whose disks and share are in the VM. Pure.
 * @param root its disks
 * @param names undefined: its files come with the mounts
 * @param mounts of what was opened for it
 */
export function guestContainer(
  { id, config }: ContainerRecord,
  root: GuestRoot,
  terminalSize: TerminalSize | undefined,
  names: NameFiles | undefined,
  mounts: readonly MountInit[],
): CreateContainerInit {
  return {
    containerId: id,
    rootfs: { case: 'disks', value: { ...root } },
    readonlyRootfs: config.readonlyRootfs,
    hostname: config.hostname,
    domainname: config.domainname,
    mounts: guestMounts(config, mounts),
    files: names === undefined ? [] : injectedFiles(config, names),
    devices: defaultDevices.map((device) => ({ ...device })),
    maskedPaths: [...maskedPaths],
    readonlyPaths: [...readonlyPaths],
    sysctl: config.sysctls,
    resources: {
      ...(config.memoryLimitBytes !== undefined && { memoryMaxBytes: BigInt(config.memoryLimitBytes) }),
      ...(config.cpuLimit !== undefined && {
        cpuQuotaUs: BigInt(Math.round(config.cpuLimit * cpuPeriodUs)),
        cpuPeriodUs: BigInt(cpuPeriodUs),
      }),
      ...(config.pidsLimit !== undefined && config.pidsLimit > 0 && { pidsMax: BigInt(config.pidsLimit) }),
    },
    process: {
      args: [...config.entrypoint, ...config.cmd],
      env: config.env,
      cwd: config.workingDir,
      createCwd: true,
      // not empty, which would be without root's groups
      user: config.user || '0',
      terminal: config.terminal,
      ...(terminalSize && { terminalSize }),
      stdinOpen: config.openStdin,
      init: config.init,
      ...guestPrivileges(config, false),
      rlimits: config.ulimits.map(({ type, soft, hard }) => ({ type, soft: limit(soft), hard: limit(hard) })),
    },
  };
}

/** The capability sets of a process: with `privileged` all there are (`exec --privileged`). */
export function guestPrivileges(
  config: ContainerConfig,
  privileged: boolean,
): Pick<ProcessInit, 'capabilities'> {
  const add = privileged ? ['ALL'] : config.capAdd;
  const names = effectiveCapabilities(defaultCapabilities, add, privileged ? [] : config.capDrop);
  // As Docker: a user other than root gets none but keeps the bounding set, which the agent sees to at execve.
  return {
    capabilities: { bounding: names, effective: names, permitted: names, inheritable: [], ambient: [] },
  };
}

function guestMounts(config: ContainerConfig, opened: readonly MountInit[]): MountInit[] {
  const replaced = new Set(
    [...config.tmpfs, ...opened].map(({ destination }) => destination).concat(config.volumes),
  );
  const kernel = defaultMounts.filter(({ destination }) => !replaced.has(destination));
  const mounts: MountInit[] = [
    ...kernel.map((mount) => kernelMount(mount, config.shmSizeBytes)),
    ...config.volumes.map((destination, index) => ({
      destination,
      source: { case: 'volume' as const, value: { name: `v${index}` } },
    })),
    ...config.tmpfs.map(({ destination, options }) => ({
      destination,
      options: ['nosuid', 'nodev', 'noexec', ...options],
      source: { case: 'kernel' as const, value: { type: 'tmpfs', source: 'tmpfs' } },
    })),
    ...opened,
  ];
  // Parents before children, otherwise in the order above, as Docker mounts.
  const depth = (path: string) => path.split('/').filter(Boolean).length;
  const own = mounts.splice(kernel.length);
  return [...mounts, ...own.toSorted((a, b) => depth(a.destination ?? '') - depth(b.destination ?? ''))];
}

function kernelMount({ destination, type, source, options }: KernelMount, shmSizeBytes?: number): MountInit {
  const sized =
    destination === '/dev/shm' && shmSizeBytes !== undefined
      ? options.map((option) => (option.startsWith('size=') ? `size=${shmSizeBytes}` : option))
      : options;
  return { destination, options: [...sized], source: { case: 'kernel', value: { type, source } } };
}

function injectedFiles(
  { hostname, binds }: ContainerConfig,
  { hosts, resolvConf }: NameFiles,
): NonNullable<CreateContainerInit['files']> {
  const files = [
    { destination: '/etc/hostname', content: `${hostname}\n` },
    { destination: '/etc/hosts', content: hosts },
    { destination: '/etc/resolv.conf', content: resolvConf },
  ];
  return files
    .filter((file) => !binds.some(({ destination }) => destination === file.destination))
    .map(({ destination, content }) => ({ destination, content: Buffer.from(content), mode: 0o644 }));
}

/** RLIM_INFINITY is all ones. */
function limit(value: number): bigint {
  return value < 0 ? 0xffff_ffff_ffff_ffffn : BigInt(value);
}
