import type { ContainerDetails } from '../../runtime/views.ts';
import { networkSettingsOf } from './networkSettings.ts';

const neverTime = '0001-01-01T00:00:00Z';

/** A container as `docker inspect` shows it, with hrun's own facts beside Docker's (`State.VmPid`, `HostConfig.…`). */
export function inspectContainer(details: ContainerDetails): object {
  const { record, logPath } = details;
  const { config } = record;
  const [path = '', ...args] = [...config.entrypoint, ...config.cmd];
  return {
    Id: record.id,
    Created: record.createdAt,
    Path: path,
    Args: args,
    State: stateOf(details),
    Image: config.imageId,
    LogPath: logPath,
    Name: `/${record.name}`,
    RestartCount: 0,
    Driver: 'overlay',
    Platform: 'linux',
    HostConfig: hostConfigOf(details),
    GraphDriver: { Name: 'overlay', Data: { ScratchDisk: details.scratchDiskPath } },
    Mounts: mountsOf(details),
    Config: {
      Hostname: config.hostname,
      Domainname: config.domainname,
      User: config.user,
      AttachStdin: config.openStdin,
      AttachStdout: true,
      AttachStderr: true,
      Tty: config.terminal,
      OpenStdin: config.openStdin,
      StdinOnce: config.openStdin,
      Env: config.env,
      Cmd: config.cmd,
      Image: config.image,
      Volumes: new Map(
        [...config.volumes, ...config.namedVolumes.map(({ destination }) => destination)].map((path) => [
          path,
          {},
        ]),
      ),
      WorkingDir: config.workingDir,
      Entrypoint: config.entrypoint.length === 0 ? null : config.entrypoint,
      Labels: new Map(Object.entries(config.labels)),
      StopSignal: String(config.stopSignal),
      StopTimeout: config.stopTimeoutS,
    },
    NetworkSettings: networkSettingsOf(record),
  };
}

function stateOf({ record: { state }, pid, vmPid }: ContainerDetails): object {
  return {
    Status: state.status === 'starting' ? 'created' : state.status,
    Running: state.status === 'running',
    Paused: false,
    Restarting: false,
    OOMKilled: state.oomKilled,
    Dead: false,
    Pid: pid,
    VmPid: vmPid,
    ExitCode: state.exitCode,
    Error: state.error,
    StartedAt: state.startedAt ?? neverTime,
    FinishedAt: state.finishedAt ?? neverTime,
  };
}

function hostConfigOf({ record: { config, state } }: ContainerDetails): object {
  const nanoCpus = (config.cpuLimit ?? config.vcpus) * 1e9;
  return {
    Binds: [
      ...config.binds.map((bind) => ({ ...bind, from: bind.source })),
      ...config.namedVolumes
        .filter(({ anonymous }) => !anonymous)
        .map((volume) => ({ ...volume, from: volume.name })),
    ].map(({ from, destination, readonly }) => `${from}:${destination}${readonly ? ':ro' : ''}`),
    LogConfig: { Type: 'json-file', Config: logOptions(config.log) },
    NetworkMode: networkModeOf(config.network),
    AutoRemove: config.autoRemove,
    Init: config.init,
    CapAdd: config.capAdd,
    CapDrop: config.capDrop,
    ReadonlyRootfs: config.readonlyRootfs,
    Tmpfs: new Map(config.tmpfs.map(({ destination, options }) => [destination, options.join(',')])),
    Ulimits: config.ulimits.map(({ type, soft, hard }) => ({
      Name: type.replace('RLIMIT_', '').toLowerCase(),
      Soft: soft,
      Hard: hard,
    })),
    Sysctls: new Map(Object.entries(config.sysctls)),
    Memory: config.memoryLimitBytes ?? 0,
    NanoCpus: Math.round(nanoCpus),
    PidsLimit: config.pidsLimit ?? null,
    ShmSize: config.shmSizeBytes ?? 0,
    StorageOpt: new Map([['size', String(config.storageBytes)]]),
    VmMemoryMiB: config.vmMemoryMiB,
    VmCpus: config.vcpus,
    Accelerator: state.accelerator ?? config.accelerator,
    Kernel: config.kernelPath,
    Initramfs: config.initramfsPath,
    Cold: config.cold,
    Jail: jailOf(state.vm),
  };
}

function networkModeOf({ connections, sharedWith }: ContainerDetails['record']['config']['network']): string {
  return sharedWith === undefined ? (connections[0]?.network ?? 'none') : `container:${sharedWith}`;
}

/** As `--log-opt` takes them. */
function logOptions(log: ContainerDetails['record']['config']['log']): object {
  return {
    ...(log?.maxBytes !== undefined && { 'max-size': String(log.maxBytes) }),
    ...(log?.maxFiles !== undefined && { 'max-file': String(log.maxFiles) }),
  };
}

/** Of a microVM that runs: its user, its cgroups, and the steps that were impossible. */
function jailOf(vm: ContainerDetails['record']['state']['vm']): object | null {
  if (vm?.jail === undefined) return null;
  return { Uid: vm.jail.uid ?? null, Cgroups: vm.cgroups ?? [], Weaker: vm.jail.weaker };
}

function mountsOf({ record: { config }, volumeSources }: ContainerDetails): object[] {
  const mount = (type: string, source: string, destination: string, readonly: boolean, options?: object) => ({
    Type: type,
    ...options,
    Source: source,
    Destination: destination,
    Mode: readonly ? 'ro' : '',
    RW: !readonly,
    Propagation: type === 'bind' ? 'rprivate' : '',
  });
  return [
    ...config.binds.map(({ source, destination, readonly }) => mount('bind', source, destination, readonly)),
    ...config.namedVolumes.map(({ name, destination, readonly }) => {
      const { path = '', driver = 'dir' } = volumeSources.get(name) ?? {};
      return mount('volume', path, destination, readonly, { Name: name, Driver: driver });
    }),
    ...config.disks.map(({ source, destination, readonly }) => mount('disk', source, destination, readonly)),
    ...config.imageMounts.map(({ image, destination }) => mount('image', image, destination, true)),
    ...config.tmpfs.map(({ destination, options }) =>
      mount('tmpfs', '', destination, options.includes('ro')),
    ),
    ...config.volumes.map((destination) => mount('volume', '', destination, false)),
  ];
}
