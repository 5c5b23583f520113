import type { Config } from '../base/config.ts';
import type { Log } from '../base/log.ts';
import type { Paths } from '../base/paths.ts';
import type { HostNetworks } from '../network/hostNetworks.ts';
import type { NetworkStore } from '../network/networkStore.ts';
import type { Guests } from '../pool/guests.ts';
import type { VmmDeps } from '../vmm/deps.ts';
import type { Accelerator } from '../vmm/microVm.ts';
import type { ContainerImages } from './containerImages.ts';
import type { ContainerStore } from './containerStore.ts';
import type { EventSink } from './eventLog.ts';
import type { LaunchStats } from './launchStats.ts';
import type { LiveContainers } from './liveContainers.ts';
import type { VolumeStore } from './volumes/volumeStore.ts';

/** What the engine stands on; built once, in the daemon's main. */
export interface RuntimeDeps {
  readonly config: Config;
  readonly paths: Paths;
  readonly log: Log;
  readonly store: ContainerStore;
  readonly live: LiveContainers;
  readonly events: EventSink;
  readonly images: ContainerImages;
  readonly guests: Guests;
  readonly launches: LaunchStats;
  readonly networks: HostNetworks;
  readonly networkStore: NetworkStore;
  readonly volumes: VolumeStore;
  readonly defaults: { readonly kernelPath: string; readonly initramfsPath: string };
  /** Monotonic clock, nanoseconds. */
  now(): bigint;
  /** @throws HrunError QEMU_MISSING */
  vmm(signal: AbortSignal): Promise<VmmDeps>;
  /** What guests run on; `kvm` where it does not work is KVM_UNAVAILABLE. */
  accelerator(wanted: 'auto' | Accelerator, signal: AbortSignal): Promise<Accelerator>;
  /** Virtiofsd, for bind mounts. */
  shareServer(): Promise<string | undefined>;
}
