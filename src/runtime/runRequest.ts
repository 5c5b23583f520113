import type { JailStep } from '../base/jailSteps.ts';
import type { WishedScope } from '../base/templateScope.ts';
import type { ContainerNetwork } from '../network/containerNetwork.ts';
import type { VolumeDriver } from './volumes/volumeDefinition.ts';

/**
 * What a user asks of `hrun create`, `run` and `exec`: parsed and checked as far as it can be without looking at the
 * image or the disk. Absent means "as the image or the configuration says".
 */
export interface CreateRequest {
  /** Reference as written: `busybox`, `localhost:5000/a/b:tag`, `name@sha256:…`, or an image id prefix. */
  readonly image: string;
  /** Replaces the image's command when not empty. */
  readonly command: readonly string[];
  /** Replaces the image's entrypoint (and drops its command); empty array: no entrypoint. */
  readonly entrypoint?: readonly string[];
  readonly name?: string;
  readonly openStdin: boolean;
  readonly terminal: boolean;
  readonly autoRemove: boolean;
  /** An init as pid 1, before the command. */
  readonly init: boolean;
  /** In order; the last of a name wins. Without a value: the image's variable of that name is removed. */
  readonly environment: readonly EnvironmentVariable[];
  readonly workingDir?: string;
  /** `user[:group]`, names or numbers. */
  readonly user?: string;
  readonly hostname?: string;
  readonly domainname?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly binds: readonly BindMount[];
  /** Destinations of anonymous volumes asked for besides the image's. */
  readonly anonymousVolumes: readonly string[];
  readonly namedVolumes: readonly VolumeMount[];
  readonly disks: readonly DiskWish[];
  readonly imageMounts: readonly ImageMount[];
  readonly tmpfs: readonly TmpfsMount[];
  readonly readonlyRootfs: boolean;
  /** `CAP_…` or `ALL`, upper case, checked against capabilities(7). */
  readonly capAdd: readonly string[];
  readonly capDrop: readonly string[];
  readonly ulimits: readonly Ulimit[];
  readonly sysctls: Readonly<Record<string, string>>;
  readonly pidsLimit?: number;
  readonly shmSizeBytes?: number;
  readonly memoryBytes?: number;
  /** May be a fraction. */
  readonly cpus?: number;
  /** Size of the writable disk. */
  readonly storageBytes?: number;
  /** Absolute path of another kernel. */
  readonly kernelPath?: string;
  readonly accelerator?: 'auto' | 'kvm' | 'tcg';
  /** Boot instead of cloning or claiming from the pool. */
  readonly cold: boolean;
  /** Steps of QEMU's jail that may be impossible. */
  readonly allowWeakerJail?: readonly JailStep[];
  /** Whose guests its microVM may share memory with. */
  readonly templateScope?: WishedScope;
  readonly network: NetworkWish;
  /** Signal number. */
  readonly stopSignal?: number;
  /** How long `stop` waits before it kills; -1 waits for ever. */
  readonly stopTimeoutS?: number;
  /** How much of the output is kept. */
  readonly log?: { readonly maxBytes?: number; readonly maxFiles?: number };
  readonly pull: PullPolicy;
  readonly platform?: Platform;
  /** Plain http, or an unverifiable certificate, is acceptable for the registry of `image`. */
  readonly insecure: boolean;
}

/** Networks as a user asks for them; without connections the default one, unless `none`. */
export interface NetworkWish extends ContainerNetwork {
  readonly none: boolean;
  /** Publish every port that the image exposes. */
  readonly publishAll: boolean;
  /** Ports exposed besides the image's: `80/tcp`. */
  readonly expose: readonly string[];
}

export type PullPolicy = 'always' | 'missing' | 'never';

export interface EnvironmentVariable {
  readonly name: string;
  readonly value: string | undefined;
}

export interface BindMount {
  /** Absolute path in the caller's mount namespace. */
  readonly source: string;
  readonly destination: string;
  readonly readonly: boolean;
  /** Make a directory of a source that is missing, as `-v` does. */
  readonly create: boolean;
  /** `nosuid`, `nodev`, `noexec`. */
  readonly options: readonly string[];
}

export interface VolumeMount {
  readonly name: string;
  readonly destination: string;
  readonly readonly: boolean;
  /** Leave an empty volume empty instead of filling it with what the image has there. */
  readonly nocopy: boolean;
  readonly options: readonly string[];
  /** These two are of the volume that is made when there is none; one of another driver is refused. */
  readonly driver?: VolumeDriver;
  readonly labels: Readonly<Record<string, string>>;
}

export interface DiskWish {
  /** As BindMount's: a raw or qcow2 image, or a block device. */
  readonly source: string;
  readonly destination: string;
  readonly readonly: boolean;
  /** Undefined: what the disk holds. */
  readonly fs?: 'ext4' | 'xfs' | 'erofs';
  readonly options: readonly string[];
}

export interface ImageMount {
  /** Reference as written. */
  readonly image: string;
  readonly destination: string;
}

export interface TmpfsMount {
  readonly destination: string;
  /** As in mount(8): `size=64m`, `mode=1777`, `noexec`, … */
  readonly options: readonly string[];
}

export interface Ulimit {
  /** `RLIMIT_NOFILE`, … */
  readonly type: string;
  /** -1 is unlimited. */
  readonly soft: number;
  readonly hard: number;
}

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

export interface RunRequest {
  readonly create: CreateRequest;
  readonly detach: boolean;
  /** Pass signals that reach the front door on to the workload. */
  readonly signalProxy: boolean;
  /** Report how long each phase took. */
  readonly timing: boolean;
}

export interface ExecRequest {
  /** Name, id or id prefix. */
  readonly container: string;
  readonly command: readonly string[];
  readonly openStdin: boolean;
  readonly terminal: boolean;
  readonly detach: boolean;
  readonly environment: readonly EnvironmentVariable[];
  readonly workingDir?: string;
  readonly user?: string;
  readonly privileged: boolean;
}
