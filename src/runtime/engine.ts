import type { Damage } from '../base/damage.ts';
import type { ContainerId, Digest } from '../base/ids.ts';
import type { Timing } from '../base/phases.ts';
import type { WishedScope } from '../base/templateScope.ts';
import type { PoolPolicy, PoolStatus } from '../pool/pool.ts';
import type { NetNamespace } from '../sys/netNamespace.ts';
import type { AttachIo } from './attachIo.ts';
import type { AttachRecord } from './attachRecord.ts';
import type { CallerFiles } from './callerFiles.ts';
import type { NetworkEngine } from './networkVerbs.ts';
import type { OciEngine } from './oci/ociEngine.ts';
import type { CreateRequest, ExecRequest, Platform, RunRequest } from './runRequest.ts';
import type {
  ContainerDetails,
  ContainerPathStat,
  ContainerSummary,
  DoctorCheck,
  EngineEvent,
  HistoryEntry,
  ImageDetails,
  ImageSummary,
  LogChunk,
  ProcessRow,
  SystemInfo,
  TemplateView,
  VersionFacts,
} from './views.ts';
import type { VolumeDefinition } from './volumes/volumeDefinition.ts';
import type { CreateVolumeRequest, PrunedVolumes, VolumeDetails, WriteBytes } from './volumes/volumeViews.ts';

/**
 * All that the verbs of the command line ask for. Answers are plain data; rendering is the caller's. Containers and
 * images are named as users name them (name, id, id prefix; reference): an unknown one is NOT_FOUND or IMAGE_UNKNOWN, one
 * that cannot be read STATE_DAMAGED.
 */
export interface Engine {
  readonly containers: ContainerEngine;
  readonly images: ImageEngine;
  readonly networks: NetworkEngine;
  readonly volumes: VolumeEngine;
  readonly system: SystemEngine;
  readonly oci: OciEngine;
  readonly pool: PoolEngine;
  /** Ends what belongs to this daemon alone: microVMs that wait for a container. Containers run on. */
  close(): Promise<void>;
}

export interface PoolEngine {
  /** Templates on disk, newest first. */
  templates(): Promise<readonly TemplateView[]>;
  /** Makes the template of a shape, if it is not there. */
  buildTemplate(request: BuildTemplateRequest, signal: AbortSignal): Promise<TemplateView>;
  /** @param id a template's id, or the beginning of one; answers the whole. @throws HrunError NOT_FOUND */
  removeTemplate(id: string): Promise<string>;
  /** Removes templates that fit no more, or all. */
  pruneTemplates(all: boolean, signal: AbortSignal): Promise<readonly TemplateView[]>;
  status(): PoolStatus;
  /** Resolves when as many clones wait as shall, or no more can be made. @throws the reason of `signal` */
  filled(signal: AbortSignal): Promise<void>;
  /** Until this daemon ends; lasting changes are made in the configuration. */
  setPolicy(change: Partial<PoolPolicy>): Promise<PoolStatus>;
}

export interface BuildTemplateRequest {
  readonly memoryBytes?: number;
  readonly cpus?: number;
  readonly scope?: WishedScope;
}

export interface ContainerEngine {
  create(request: CreateRequest, caller: Caller, signal: AbortSignal): Promise<Created>;
  /**
   * Creates, attaches (unless `detach`) and starts. Before the workload starts nothing is left behind by a failure or
   * by `signal`.
   */
  run(request: RunRequest, caller: Caller, io: AttachIo, signal: AbortSignal): Promise<Ended>;
  start(container: string, caller: Caller, signal: AbortSignal): Promise<void>;
  /** Starts and stays with the workload. */
  startAttached(
    container: string,
    options: AttachOptions,
    caller: Caller,
    io: AttachIo,
    signal: AbortSignal,
  ): Promise<Ended>;
  attach(container: string, options: AttachOptions, io: AttachIo, signal: AbortSignal): Promise<Ended>;
  exec(request: ExecRequest, io: AttachIo, signal: AbortSignal): Promise<Ended>;
  /** Goes on with a command whose front door came back; it has received the streams up to the offsets. */
  resume(record: AttachRecord, received: StreamOffsets, io: AttachIo, signal: AbortSignal): Promise<Ended>;

  list(options: { readonly withSize: boolean }, signal: AbortSignal): Promise<readonly ContainerSummary[]>;
  inspect(container: string, signal: AbortSignal): Promise<ContainerDetails>;
  top(container: string, signal: AbortSignal): Promise<readonly ProcessRow[]>;
  logs(request: LogsRequest, signal: AbortSignal): AsyncIterable<LogChunk>;
  /** Waits for the end of a running container (or, `next-exit`, of its next run); answers the exit code. */
  wait(
    container: string,
    until: 'not-running' | 'next-exit' | 'removed',
    signal: AbortSignal,
  ): Promise<number>;

  /** No error for a container that does not run. */
  stop(container: string, options: StopOptions, signal: AbortSignal): Promise<void>;
  restart(container: string, options: StopOptions, caller: Caller, signal: AbortSignal): Promise<void>;
  kill(container: string, signalNumber: number, signal: AbortSignal): Promise<void>;
  /** @param options `volumes`: also those that were made for it without a name */
  remove(
    container: string,
    options: { readonly force: boolean; readonly volumes: boolean },
    signal: AbortSignal,
  ): Promise<void>;
  rename(container: string, newName: string, signal: AbortSignal): Promise<void>;

  statPath(
    container: string,
    path: string,
    followLink: boolean,
    caller: Caller,
    signal: AbortSignal,
  ): Promise<ContainerPathStat>;
  copyOut(request: CopyOutRequest, caller: Caller, signal: AbortSignal): Promise<{ readonly bytes: number }>;
  copyIn(request: CopyInRequest, caller: Caller, signal: AbortSignal): Promise<{ readonly bytes: number }>;
}

export interface ImageEngine {
  list(signal: AbortSignal): Promise<readonly ImageSummary[]>;
  inspect(image: string, signal: AbortSignal): Promise<ImageDetails>;
  history(image: string, signal: AbortSignal): Promise<readonly HistoryEntry[]>;
  pull(request: PullRequest, caller: Caller, signal: AbortSignal): Promise<Pulled>;
  /** Reads an OCI layout or docker-archive; answers what was loaded, by name or, without one, by id. */
  load(source: LoadSource, caller: Caller, signal: AbortSignal): Promise<readonly LoadedImage[]>;
  /** Makes an image of one root-filesystem tar. */
  import(request: ImportRequest, caller: Caller, signal: AbortSignal): Promise<Digest>;
  /** The bytes of an archive with these images. */
  save(request: SaveRequest, signal: AbortSignal): AsyncIterable<Uint8Array>;
  tag(image: string, newName: string, signal: AbortSignal): Promise<void>;
  remove(image: string, options: { readonly force: boolean }, signal: AbortSignal): Promise<RemovedImage>;
  /** Removes images without a name, or with `all` every one that no container uses. */
  prune(options: { readonly all: boolean }, signal: AbortSignal): Promise<PruneReport>;
}

/** An unknown volume is NOT_FOUND, one that cannot be read STATE_DAMAGED, one that containers have VOLUME_IN_USE. */
export interface VolumeEngine {
  /** One that is there already, and is as asked for, is answered as it is. */
  create(request: CreateVolumeRequest, signal: AbortSignal): Promise<VolumeDefinition>;
  list(): readonly VolumeDetails[];
  inspect(volume: string): VolumeDetails;
  /** @param options `force`: one that is damaged, too */
  remove(volume: string, options: { readonly force: boolean }): Promise<void>;
  /** Removes those that no container has and that `chosen` picks. */
  prune(chosen: (volume: VolumeDefinition) => boolean): Promise<PrunedVolumes>;
  /** Makes a disk bigger; its file system grows when it is next mounted. */
  resize(volume: string, sizeBytes: number): Promise<void>;
  /** The bytes of a tar of what the volume holds, made in a microVM. */
  export(volume: string, write: WriteBytes, caller: Caller, signal: AbortSignal): Promise<void>;
  /** Extracts a tar into the volume, in a microVM. */
  import(volume: string, bytes: AsyncIterable<Buffer>, caller: Caller, signal: AbortSignal): Promise<void>;
}

export interface SystemEngine {
  /** Containers that run now: the daemon does not stop under them unasked. */
  running(): readonly ContainerId[];
  /** Kills every running container and waits until their ends are on disk. */
  killAll(): Promise<readonly ContainerId[]>;
  /** What happened and, without an end in the past, what happens; in order. */
  events(request: EventsRequest, signal: AbortSignal): AsyncIterable<EngineEvent>;
  versions(signal: AbortSignal): Promise<VersionFacts>;
  info(signal: AbortSignal): Promise<SystemInfo>;
  /** What of the state on disk cannot be read. */
  damages(): readonly Damage[];
  doctor(caller: Pick<Caller, 'openNetns'>, signal: AbortSignal): AsyncIterable<DoctorCheck>;
}

/** Who asks: its files and environment, and where progress is shown. */
export interface Caller {
  readonly files: CallerFiles;
  /** A new handle of the caller's network namespace. @throws HrunError NETWORK_FAILED when it cannot be entered */
  openNetns(): NetNamespace;
  /** The caller's environment: HOME, DOCKER_CONFIG, HTTPS_PROXY, … */
  readonly environment: ReadonlyMap<string, string>;
  readonly progress: Progress;
  /** When the command was called: CLOCK_MONOTONIC, nanoseconds. */
  readonly startedNs: bigint | undefined;
  /** Awaited once a container exists and before it starts; its failure undoes the container (`--cidfile`). */
  containerCreated(id: ContainerId, signal: AbortSignal): Promise<void>;
}

/** Told what goes on while a user waits. Calls are cheap and may be many; the receiver thins them out. */
export interface Progress {
  /** A line that stands for itself: `Pulling from library/busybox`. */
  message(text: string): void;
  /** State of one part, named by `id` (a short digest): `Downloading` 12 of 34 bytes. */
  part(id: string, status: string, amount?: ProgressAmount): void;
}

export interface ProgressAmount {
  readonly current: number;
  /** Undefined while unknown. */
  readonly total?: number;
  readonly unit: 'bytes' | 'entries';
}

export interface Created {
  readonly id: ContainerId;
  readonly warnings: readonly string[];
}

export type Ended =
  | {
      readonly kind: 'exited';
      readonly containerId: ContainerId;
      readonly exitCode: number;
      readonly timing?: Timing;
    }
  /** The user detached, or asked not to attach: the workload goes on. */
  | { readonly kind: 'detached'; readonly containerId: ContainerId; readonly timing?: Timing };

export interface EventsRequest {
  /** Undefined: only what happens from now on or, with an end, all that is kept. */
  readonly sinceMs?: number;
  /** Undefined: for ever. */
  readonly untilMs?: number;
}

export interface StreamOffsets {
  readonly stdout: bigint;
  readonly stderr: bigint;
}

export interface AttachOptions {
  /** Pass the caller's stdin on (if the container was created with `-i`). */
  readonly stdin: boolean;
  readonly signalProxy: boolean;
}

export interface StopOptions {
  /** Undefined: as the container says; -1: never kill. */
  readonly timeoutS?: number;
  /** Undefined: as the container says. */
  readonly signalNumber?: number;
}

export interface LogsRequest {
  readonly container: string;
  readonly follow: boolean;
  /** Last lines only; undefined: all. */
  readonly tailLines?: number;
  readonly sinceMs?: number;
  readonly untilMs?: number;
}

/** Where `copyOut` puts the tar of a path; `name` is what its first component becomes. */
export interface CopyOutRequest {
  readonly container: string;
  readonly path: string;
  readonly followLink: boolean;
  /** Keep owners (`cp -a`); otherwise what lands on the host belongs to the caller. */
  readonly archive: boolean;
  /** The entries of the tar are called `./…`; the path is a directory. */
  readonly contentOnly?: boolean;
  readonly target:
    | { readonly kind: 'directory'; readonly directory: string; readonly name: string }
    | { readonly kind: 'stream'; write(bytes: Uint8Array, signal: AbortSignal): Promise<void> };
}

export interface CopyInRequest {
  readonly container: string;
  /** Existing directory inside the container. */
  readonly directory: string;
  /** Keep owners (`cp -a`); otherwise what comes from the host belongs to root. */
  readonly archive: boolean;
  readonly source:
    | { readonly kind: 'path'; readonly path: string; readonly followLink: boolean; readonly name: string }
    | { readonly kind: 'stream'; readonly bytes: AsyncIterable<Buffer> };
}

export interface PullRequest {
  readonly reference: string;
  readonly platform?: Platform;
  readonly insecure: boolean;
}

export interface Pulled {
  /** Reference in full: `docker.io/library/busybox:latest`. */
  readonly reference: string;
  readonly digest: Digest;
  readonly upToDate: boolean;
}

export type LoadSource =
  | {
      readonly kind: 'stream';
      /** For messages: a path or "stdin". */
      readonly name: string;
      readonly bytes: AsyncIterable<Buffer>;
      readonly sizeBytes?: number;
    }
  | { readonly kind: 'directory'; readonly path: string };

export interface LoadedImage {
  readonly id: Digest;
  readonly reference?: string;
}

export interface ImportRequest {
  readonly source: LoadSource & { readonly kind: 'stream' };
  readonly reference?: string;
  readonly message?: string;
  /** Dockerfile-like: `CMD …`, `ENV …`, `ENTRYPOINT …`, `USER …`, `WORKDIR …`, `LABEL …`. */
  readonly changes: readonly string[];
  readonly platform?: Platform;
}

export interface SaveRequest {
  readonly images: readonly string[];
  readonly format: 'docker-archive' | 'oci-archive';
}

export interface RemovedImage {
  readonly untagged: readonly string[];
  readonly deleted: readonly string[];
}

export interface PruneReport extends RemovedImage {
  readonly reclaimedBytes: number;
}
