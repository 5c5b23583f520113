import type { Duplex } from 'node:stream';
import type { VmId } from '../base/ids.ts';
import type { JailStep } from '../base/jailSteps.ts';
import type { JailFacts } from './jail/policy.ts';
import type { OutOfMemory } from './outOfMemory.ts';

export type Accelerator = 'kvm' | 'tcg';
export type AgentTransport = 'serial' | 'vsock';

/** A raw disk image on the host, found in the guest by its serial number (up to 20 bytes of [a-z0-9-]). */
export interface Disk {
  readonly serial: string;
  readonly path: string;
  readonly readonly: boolean;
}

/** A disk whose file is open already: who opened it decided that it may be. */
export interface OpenDisk {
  readonly serial: string;
  /** Open as `readonly` says; the VMM has a copy of its own from then on. */
  readonly fd: number;
  readonly kind: 'file' | 'block';
  /** Never guessed: a guest could write what looks like another one. A qcow2 is used without any file it refers to. */
  readonly format: 'raw' | 'qcow2';
  readonly readonly: boolean;
  /** What a file may grow to. */
  readonly mostBytes: number;
}

/** What the guest is made of. Two launches of equal shape could be clones of one template. */
export interface VmShape {
  readonly kernelPath: string;
  readonly initramfsPath: string;
  readonly accelerator: Accelerator;
  readonly vcpus: number;
  readonly memoryMiB: number;
  readonly transport: AgentTransport;
  /** Appended to the kernel command line; each without white space. */
  readonly kernelParameters: readonly string[];
}

export interface VmRequest {
  readonly id: VmId;
  /** Directory of this VM's sockets and logs: exists, 0700, short enough for unix socket paths. */
  readonly runDir: string;
  readonly shape: VmShape;
  /** The read-only slot; `empty` is there and can be filled later. Its serial number is `image` if it can be. */
  readonly imageDisk?: Disk | 'empty';
  /** The writable slot, likewise, `scratch`. */
  readonly scratchDisk?: Disk | 'empty';
  /** Network devices, each without a link to anything until `plugNic`; `usualNicSlots` if not given. */
  readonly nicSlots?: number;
  /** A vhost-user-fs server that already listens. */
  readonly share?: { readonly tag: string; readonly socketPath: string };
  /** Steps of the jail that may be impossible, besides those that always may. */
  readonly allowWeakerJail?: readonly JailStep[];
  /** Directories of the host's cgroups, one of each hierarchy, that the VMM starts in. Default: its own, with limits. */
  readonly cgroups?: readonly string[];
}

/** What a guest's network device is connected to. */
export interface NicCable {
  /** An open tap, or a connected stream socket that carries frames, each after its length in four bytes, big endian. */
  readonly kind: 'tap' | 'socket';
  readonly fd: number;
}

export type DiskSlot = 'image' | 'scratch';

/** A guest saved by `MicroVm.save`. Every clone maps its RAM copy-on-write. */
export interface VmTemplate {
  /** A memfd with the guest's RAM, sealed: a clone could otherwise punch holes into it, under all the others. */
  readonly ramFd: number;
  /** A memfd, sealed, with the state of the devices. */
  readonly stateFd: number;
}

/** What the next daemon needs to find a running VM again; JSON, part of the container's state file. */
export interface VmRecord {
  readonly id: VmId;
  readonly runDir: string;
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: a pid alone may have been reused. */
  readonly pidStartTicks: string;
  readonly transport: AgentTransport;
  readonly vsockCid?: number;
  /** Directories of the cgroups that were made for it. */
  readonly cgroups?: readonly string[] | undefined;
  /** Absent in records of before there was one. */
  readonly jail?: JailFacts | undefined;
}

export type VmEnd =
  | { readonly kind: 'killed' }
  | { readonly kind: 'guest-reset' }
  | { readonly kind: 'guest-panic' }
  | { readonly kind: 'vmm-died'; readonly detail: string; readonly outOfMemory?: OutOfMemory | undefined };

/** One running microVM. Disposing kills it and removes its sockets, not its disks. */
export interface MicroVm extends AsyncDisposable {
  readonly record: VmRecord;
  /** Opens the byte stream to the agent: one at a time; a second call ends the first stream. */
  dial(signal: AbortSignal): Promise<Duplex>;
  /** Plugs a disk into the SCSI slot while running; the guest sees its true size. */
  plugDisk(disk: Disk, signal: AbortSignal): Promise<void>;
  /**
   * As plugDisk. The VMM locks the file, one writer or many readers, until it lets go of it or ends.
   * @throws HrunError DISK_IN_USE when another holds that lock
   */
  plugOpenDisk(disk: OpenDisk, signal: AbortSignal): Promise<void>;
  unplugDisk(serial: string, signal: AbortSignal): Promise<void>;
  /**
   * Connects the network device `slot` (from 0) to a cable, which the VMM keeps a copy of until `unplugNic`. The
   * guest's device is there from the start, its MAC address is the guest's to set.
   */
  plugNic(slot: number, cable: NicCable, signal: AbortSignal): Promise<void>;
  unplugNic(slot: number, signal: AbortSignal): Promise<void>;
  /** Gives a slot its disk, or takes it away again. The guest sees the same device, still of the size it began with. */
  fillSlot(slot: DiskSlot, disk: Disk | 'empty', signal: AbortSignal): Promise<void>;
  /** Stops the guest's CPUs and clock until `resume`. */
  pause(signal: AbortSignal): Promise<void>;
  resume(signal: AbortSignal): Promise<void>;
  /**
   * Stops the guest for good and answers the state of its devices. Its RAM is then as the state needs it in the memfd
   * that it was booted with.
   */
  save(signal: AbortSignal): Promise<Buffer>;
  /** The last bytes (up to 64 KiB) of the serial console, control characters replaced. Works after a panic too. */
  consoleTail(signal: AbortSignal): Promise<string>;
  /** Settles once, when the guest no longer runs; never rejects. The VMM may linger until dispose. */
  readonly ended: Promise<VmEnd>;
  kill(): Promise<void>;
}
