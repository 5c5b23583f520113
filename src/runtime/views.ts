import type { ContainerId, Digest } from '../base/ids.ts';
import type { PublishedPort } from '../network/endpoint.ts';
import type { ContainerRecord } from './containerRecord.ts';
import type { LaunchSummary } from './launchStats.ts';
import type { VolumeDriver } from './volumes/volumeDefinition.ts';

/** A container as lists show it. */
export interface ContainerSummary {
  readonly id: ContainerId;
  readonly name: string;
  /** As the user wrote it. */
  readonly image: string;
  readonly imageId: string;
  /** Entrypoint and command. */
  readonly command: readonly string[];
  readonly createdAtMs: number;
  readonly status: ContainerRecord['state']['status'];
  readonly startedAtMs?: number;
  readonly finishedAtMs?: number;
  readonly exitCode: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly mounts: readonly string[];
  /** How many anonymous volumes it has. */
  readonly volumes: number;
  /** Names. */
  readonly networks: readonly string[];
  /** While it runs. */
  readonly ports: readonly PublishedPort[];
  /** Bytes on the writable disk; only when asked for. */
  readonly sizeBytes?: number;
}

/** A container as `inspect` shows it. */
export interface ContainerDetails {
  readonly record: ContainerRecord;
  readonly logPath: string;
  readonly scratchDiskPath: string;
  /** QEMU's pid, 0 when none runs. */
  readonly vmPid: number;
  /** The stand-in's pid, 0 when there is none. */
  readonly pid: number;
  /** Where its volumes are on this host, by name. */
  readonly volumeSources: ReadonlyMap<string, { readonly path: string; readonly driver: VolumeDriver }>;
}

export interface ProcessRow {
  readonly pid: number;
  readonly ppid: number;
  readonly uid: number;
  readonly user: string;
  readonly startMs: number;
  readonly cpuTimeMs: number;
  readonly cpuPercent: number;
  readonly rssBytes: number;
  readonly tty: string;
  readonly args: readonly string[];
}

/** One chunk of output, not necessarily a line. */
export interface LogChunk {
  readonly stream: 'stdout' | 'stderr';
  readonly timeNs: bigint;
  readonly bytes: Uint8Array;
}

/** One name of an image; an image without a name appears once, with neither repository nor tag. */
export interface ImageSummary {
  readonly id: Digest;
  readonly repository?: string;
  readonly tag?: string;
  /** Digest of the manifest it was pulled by. */
  readonly digest?: Digest;
  readonly createdAtMs: number;
  readonly sizeBytes: number;
  readonly labels: Readonly<Record<string, string>>;
  /** Containers that use it. */
  readonly containers: number;
}

export interface ImageDetails {
  readonly id: Digest;
  readonly names: readonly string[];
  readonly digests: readonly string[];
  readonly createdAt: string;
  readonly author: string;
  readonly comment: string;
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
  readonly sizeBytes: number;
  readonly diffIds: readonly Digest[];
  readonly config: ImageConfigView;
}

export interface ImageConfigView {
  readonly user: string;
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly workingDir: string;
  readonly exposedPorts: readonly string[];
  readonly volumes: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly stopSignal?: string;
}

export interface HistoryEntry {
  /** The image's id for the newest entry, undefined ("<missing>") for the others. */
  readonly id?: Digest;
  readonly createdAtMs: number;
  readonly createdBy: string;
  readonly sizeBytes: number;
  readonly comment: string;
}

export interface ContainerPathStat {
  readonly name: string;
  readonly sizeBytes: number;
  readonly mode: number;
  readonly mtimeMs: number;
  readonly linkTarget: string;
}

export interface TemplateView {
  readonly id: string;
  readonly createdAtMs: number;
  readonly buildMs: number;
  readonly accelerator: 'kvm' | 'tcg';
  readonly vcpus: number;
  readonly memoryMiB: number;
  /** `host` or `tenant=NAME`. */
  readonly scope: string;
  /** What it takes on disk. */
  readonly sizeBytes: number;
  readonly kernelPath: string;
  readonly qemuVersion: string;
}

/** Something that happened to a container or an image. */
export interface EngineEvent {
  readonly type: 'container' | 'image';
  /** Docker's word: `create`, `start`, `die`, `exec_create: sh -c true`, `pull`, …; `launch` is hrun's own. */
  readonly action: string;
  /** Of the container; of the image, or what it was called. */
  readonly id: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** Nanoseconds since the epoch. */
  readonly timeNs: bigint;
}

export interface VersionFacts {
  readonly qemuVersion?: string;
  readonly qemuPath?: string;
  /** Release of the guest kernel, when its file tells. */
  readonly kernelVersion?: string;
}

export interface SystemInfo {
  readonly containers: { readonly total: number; readonly running: number; readonly stopped: number };
  readonly images: number;
  readonly accelerator: 'kvm' | 'tcg' | 'unknown';
  /** How long the launches of this daemon took. */
  readonly launches: readonly LaunchSummary[];
  readonly hostCpus: number;
  readonly hostMemoryBytes: number;
  readonly hostKernel: string;
  readonly hostOs: string;
  readonly versions: VersionFacts;
  readonly kernelPath: string;
  readonly initramfsPath: string;
}

export interface DoctorCheck {
  readonly name: string;
  readonly status: 'ok' | 'warn' | 'fail';
  readonly detail: string;
  /** What to do about a warn or fail. */
  readonly remedy?: string;
}
