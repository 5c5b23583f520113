import { constants } from 'node:os';
import { HrunError } from '../base/errors.ts';
import type { ContainerId } from '../base/ids.ts';
import { type ContainerNetwork, noNetwork, type PortWish } from '../network/containerNetwork.ts';
import { defaultPath } from '../oci/defaults.ts';
import type { ContainerConfig } from './containerRecord.ts';
import { mergeMounts } from './mergeMounts.ts';
import type { CreateRequest, EnvironmentVariable } from './runRequest.ts';
import type { ImageConfigView } from './views.ts';

/** What the host's configuration says where neither user nor image do. */
export interface HostDefaults {
  readonly memoryBytes: number;
  readonly cpus: number;
  readonly storageBytes: number;
  readonly stopTimeoutS: number;
  readonly kernelPath: string;
  readonly initramfsPath: string;
  readonly accelerator: 'auto' | 'kvm' | 'tcg';
  readonly templateScope: ContainerConfig['templateScope'];
  /** Network of a container that asks for none in particular; undefined: loopback only. */
  readonly defaultNetwork: string | undefined;
}

const mebibyte = 1024 * 1024;
/** What kernel and agent need beside the workload, so that `--memory` is what the workload gets. */
const guestOverheadMiB = 64;
/** Docker's floor for `--memory`. */
const minimumMemoryBytes = 6 * mebibyte;
const maximumVcpus = 64;
/** A file system with its journal, and some room. */
const minimumStorageBytes = 32 * mebibyte;

/**
 * Merges a request with its image by Docker's rules: an entrypoint of the user drops the image's command; variables of
 * the user win; destinations that the user mounts are not made anonymous volumes.
 * @throws HrunError INVALID_ARGUMENT: no command, too little memory, an unknown stop signal of the image
 */
export function mergeContainerConfig(
  id: ContainerId,
  request: CreateRequest,
  image: {
    readonly id: string;
    readonly config: ImageConfigView;
    /** Ids of the images that the request mounts, in order. */
    readonly mountedIds?: readonly string[];
  },
  host: HostDefaults,
): ContainerConfig {
  const { entrypoint, cmd } = mergeCommand(request, image.config);
  const hostname = request.hostname ?? id.slice(0, 12);
  const memoryBytes = request.memoryBytes ?? host.memoryBytes;
  const cpus = request.cpus ?? host.cpus;
  if (memoryBytes < minimumMemoryBytes) {
    throw new HrunError(
      'INVALID_ARGUMENT',
      `${memoryBytes} bytes of memory are too little to run a container`,
      {
        hint: 'the minimum of --memory is 6m',
      },
    );
  }
  const storageBytes = request.storageBytes ?? host.storageBytes;
  if (storageBytes < minimumStorageBytes) {
    throw new HrunError(
      'INVALID_ARGUMENT',
      `${storageBytes} bytes are too little for a container's writable disk`,
      { hint: 'the minimum of --storage-size is 32m' },
    );
  }
  if (cpus > maximumVcpus) {
    throw new HrunError(
      'INVALID_ARGUMENT',
      `${cpus} CPUs are more than a microVM can have (${maximumVcpus})`,
    );
  }
  return {
    image: request.image,
    imageId: image.id,
    entrypoint,
    cmd,
    env: mergeEnvironment(request, image.config.env, hostname),
    workingDir: request.workingDir ?? (image.config.workingDir || '/'),
    user: request.user ?? image.config.user,
    hostname,
    domainname: request.domainname ?? '',
    labels: { ...image.config.labels, ...request.labels },
    openStdin: request.openStdin,
    terminal: request.terminal,
    autoRemove: request.autoRemove,
    init: request.init,
    stopSignal: request.stopSignal ?? signalOfImage(image.config.stopSignal),
    stopTimeoutS: request.stopTimeoutS ?? host.stopTimeoutS,
    readonlyRootfs: request.readonlyRootfs,
    capAdd: [...request.capAdd],
    capDrop: [...request.capDrop],
    ...mergeMounts(request, image.config.volumes, image.mountedIds ?? []),
    ulimits: request.ulimits.map((ulimit) => ({ ...ulimit })),
    sysctls: { ...request.sysctls },
    ...(request.pidsLimit !== undefined && { pidsLimit: request.pidsLimit }),
    ...(request.shmSizeBytes !== undefined && { shmSizeBytes: request.shmSizeBytes }),
    ...(request.memoryBytes !== undefined && { memoryLimitBytes: request.memoryBytes }),
    vmMemoryMiB: vmMemoryMiB(memoryBytes),
    ...(!Number.isInteger(cpus) && { cpuLimit: cpus }),
    vcpus: vcpusFor(cpus),
    storageBytes,
    kernelPath: request.kernelPath ?? host.kernelPath,
    initramfsPath: host.initramfsPath,
    accelerator: request.accelerator ?? host.accelerator,
    cold: request.cold,
    ...(request.log !== undefined && { log: { ...request.log } }),
    ...(request.allowWeakerJail && { allowWeakerJail: [...request.allowWeakerJail] }),
    templateScope: request.templateScope ?? host.templateScope,
    network: mergeNetwork(request.network, image.config.exposedPorts, host.defaultNetwork),
  };
}

function mergeNetwork(
  { none, publishAll, expose, ...wish }: CreateRequest['network'],
  exposed: readonly string[],
  defaultNetwork: string | undefined,
): ContainerNetwork {
  if (none) return { ...noNetwork, extraHosts: [...wish.extraHosts] };
  if (wish.sharedWith !== undefined) return { ...noNetwork, sharedWith: wish.sharedWith };
  const [first = { network: 'default', aliases: [] }, ...rest] = wish.connections;
  const connections = [first, ...rest].flatMap((connection) => {
    const network = connection.network === 'default' ? defaultNetwork : connection.network;
    return network === undefined ? [] : [{ ...connection, network }];
  });
  const published = new Set(wish.ports.map(({ guestPort, protocol }) => `${guestPort}/${protocol}`));
  const all = publishAll ? [...exposed, ...expose].flatMap(exposedPort) : [];
  const further = all.filter(({ guestPort, protocol }) => !published.has(`${guestPort}/${protocol}`));
  return { ...wish, connections, ports: [...wish.ports, ...further] };
}

/** `80/tcp`, `80`, `8000-8010/udp`; what an image says and cannot be meant is left out. */
function exposedPort(text: string): PortWish[] {
  const match = /^(\d+)(?:-(\d+))?(?:\/(tcp|udp|sctp))?$/.exec(text.toLowerCase());
  const [first, last] = [Number(match?.[1]), Number(match?.[2] ?? match?.[1])];
  if (match === null || !(first >= 1 && last >= first && last <= 65_535)) return [];
  const protocol = match[3] === 'udp' || match[3] === 'sctp' ? match[3] : 'tcp';
  return Array.from({ length: last - first + 1 }, (_, index) => ({
    hostIp: '',
    guestPort: first + index,
    protocol,
  }));
}

/** The microVM of a container that asks for no size of its own. */
export function defaultVmSize(host: Pick<HostDefaults, 'memoryBytes' | 'cpus'>): {
  readonly vcpus: number;
  readonly memoryMiB: number;
} {
  return { vcpus: vcpusFor(host.cpus), memoryMiB: vmMemoryMiB(host.memoryBytes) };
}

function vcpusFor(cpus: number): number {
  return Math.max(1, Math.ceil(cpus));
}

function vmMemoryMiB(memoryBytes: number): number {
  return Math.ceil(memoryBytes / mebibyte) + guestOverheadMiB;
}

function mergeCommand(
  request: CreateRequest,
  image: ImageConfigView,
): { entrypoint: string[]; cmd: string[] } {
  const ownEntrypoint = request.entrypoint;
  const entrypoint = [...(ownEntrypoint ?? image.entrypoint)];
  const imageCmd = ownEntrypoint === undefined ? image.cmd : [];
  const cmd = [...(request.command.length > 0 ? request.command : imageCmd)];
  if (entrypoint.length + cmd.length === 0) {
    throw new HrunError('INVALID_ARGUMENT', `the image ${request.image} names no command`, {
      hint: 'give one after the image',
    });
  }
  return { entrypoint, cmd };
}

function mergeEnvironment(request: CreateRequest, image: readonly string[], hostname: string): string[] {
  const merged = new Map<string, string>([['PATH', defaultPath]]);
  merged.set('HOSTNAME', hostname);
  if (request.terminal) merged.set('TERM', 'xterm');
  for (const variable of image.map(splitVariable)) {
    if (variable.name !== '') merged.set(variable.name, variable.value ?? '');
  }
  for (const { name, value } of request.environment) {
    if (value === undefined) merged.delete(name);
    else merged.set(name, value);
  }
  return [...merged].map(([name, value]) => `${name}=${value}`);
}

function splitVariable(variable: string): EnvironmentVariable {
  const at = variable.indexOf('=');
  return at < 0
    ? { name: variable, value: '' }
    : { name: variable.slice(0, at), value: variable.slice(at + 1) };
}

function signalOfImage(name: string | undefined): number {
  if (name === undefined || name === '') return constants.signals.SIGTERM;
  const number = /^\d+$/.test(name)
    ? Number(name)
    : new Map<string, number>(Object.entries(constants.signals)).get(
        name.startsWith('SIG') ? name : `SIG${name}`,
      );
  if (number === undefined || number < 1 || number > 64) {
    throw new HrunError('INVALID_ARGUMENT', `the image's stop signal "${name}" is unknown`, {
      hint: 'name another with --stop-signal',
    });
  }
  return number;
}
