import type { ContainerId } from '../../base/ids.ts';
import type { VolumeDefinition, VolumeDriver } from './volumeDefinition.ts';

export type WriteBytes = (bytes: Uint8Array, signal: AbortSignal) => Promise<void>;

export interface CreateVolumeRequest {
  /** Undefined: one is invented. */
  readonly name?: string;
  readonly driver: VolumeDriver;
  readonly labels: Readonly<Record<string, string>>;
  readonly sizeBytes?: number;
}

export interface VolumeDetails {
  readonly volume: VolumeDefinition;
  /** The directory or disk on this host. */
  readonly mountpoint: string;
  /** Containers that have it, running or not. */
  readonly usedBy: readonly ContainerId[];
}

export interface PrunedVolumes {
  readonly names: readonly string[];
  readonly reclaimedBytes: number;
}
