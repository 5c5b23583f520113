import { HrunError } from '../../base/errors.ts';
import type { Accelerator, Disk, DiskSlot, VmRequest, VmShape } from '../microVm.ts';
import { usualNicSlots } from '../nicSlots.ts';
import { checkSerial, emptyFile, slotFile, slotNode } from './blockNode.ts';

/** Descriptors and ids that only the running host knows. */
export interface VmWiring {
  /** Listening unix sockets, as numbered in QEMU's own descriptor table. */
  readonly controlFd: number;
  readonly agentFd: number | undefined;
  readonly vsockCid: number | undefined;
  /** Frequency of the host's time stamp counter, if that is known. */
  readonly tscKhz: number | undefined;
  /** A memfd for the guest's RAM: `shared`, so that it ends up there, or mapped copy-on-write. Default: QEMU's own. */
  readonly ram?: { readonly fd: number; readonly shared: boolean } | undefined;
  /** What the guest boots from; not needed for `incoming`. */
  readonly boot?: { readonly kernelFd: number; readonly initramfsFd: number } | undefined;
  /** Of the disks in the slots; each is also the number of the set that it is in. */
  readonly diskFds?: Readonly<Partial<Record<DiskSlot, number>>>;
  /** Connected to the share server. */
  readonly shareFd?: number | undefined;
  /** /dev/vhost-vsock, where there is a vsockCid. */
  readonly vhostFd?: number | undefined;
  /** Instead of booting: the guest is restored over QMP, and then either goes on at once or is paused. */
  readonly incoming?: { readonly paused: boolean } | undefined;
}

/** QEMU's own seccomp filter, with everything denied that it can be without. */
export const qemuSandbox = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny';
/** Names of what is asked for over QMP later. */
export const consoleChardev = 'console';
export const scsiBus = 'scsi0.0';
/** With less the kernel has no room for its initramfs, and hangs or resets without a word. */
const minMemoryMiB = 52;
export const consoleBytes = 64 * 1024;
/** The guest finds its end of the agent's channel by this name. */
const agentPortName = 'hrun.agent';

/**
 * QEMU's arguments for a boot or, of the very same machine, for a restore. Every value that comes from outside travels as JSON or as an argument of its own,
 * never inside a comma-separated option.
 * @throws HrunError INVALID_ARGUMENT for a request that QEMU would misread
 */
export function qemuArguments(request: VmRequest, wiring: VmWiring): string[] {
  const { shape } = request;
  return [
    ...['-name', `hrun-${request.id}`],
    ...['-nodefaults', '-no-user-config', '-display', 'none'],
    // a guest that resets or panics stays, paused, so that its console can be read
    ...['-no-reboot', '-action', 'reboot=shutdown,shutdown=pause'],
    ...['-sandbox', qemuSandbox],
    ...['-chardev', `socket,id=control,fd=${wiring.controlFd},server=on,wait=off`],
    ...['-mon', 'chardev=control,mode=control'],
    // a ring, never a file: a hostile guest may print for ever
    ...['-chardev', `ringbuf,id=${consoleChardev},size=${consoleBytes}`],
    ...['-serial', `chardev:${consoleChardev}`],
    ...machineArguments(request, wiring),
    ...deviceArguments(request, wiring),
    ...(wiring.incoming === undefined ? bootArguments(shape, wiring) : incomingArguments(wiring.incoming)),
  ];
}

function bootArguments(shape: VmShape, wiring: VmWiring): string[] {
  const { kernelFd, initramfsFd } = given(wiring.boot, 'a kernel');
  const files = ['-kernel', ownDescriptor(kernelFd), '-initrd', ownDescriptor(initramfsFd)];
  return [...files, '-append', kernelCommandLine(shape, wiring)];
}

/** For what QEMU opens by path only: the one way in its jail. */
function ownDescriptor(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

function given<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`a microVM is to be started without ${what}`);
  return value;
}

/** Kernel and initramfs are in the guest's RAM already. */
function incomingArguments({ paused }: NonNullable<VmWiring['incoming']>): string[] {
  return paused ? ['-incoming', 'defer', '-S'] : ['-incoming', 'defer'];
}

interface Profile {
  readonly machine: string;
  readonly accelerator: string;
  readonly cpu: string;
  /** See kernel-configs/README.md. */
  readonly kernel: readonly string[];
}

const profiles: Readonly<Record<Accelerator, Profile>> = {
  kvm: { machine: 'pit=off,pic=off,rtc=off', accelerator: 'kvm', cpu: 'host', kernel: [] },
  tcg: {
    // the guest calibrates by PIT and PIC, and would wait a second for a clock chip that is not there
    machine: 'pit=on,pic=on,rtc=on',
    // in MiB, against 1 GiB by default, which would come on top of the guest's memory
    accelerator: 'tcg,tb-size=128',
    // TCG runs "rep movsb" byte by byte, so the guest's kernel must not prefer it for copying pages
    cpu: 'max,erms=off',
    kernel: [
      'no_timer_check',
      'noreplace-smp',
      'lapic_timer_khz=1000000',
      'mitigations=off',
      // its watchdog would wake an idle guest twice a second
      'tsc=reliable',
      // its averages are the other thing that wakes one, every two seconds
      'psi=0',
    ],
  },
};

function machineArguments({ shape, share }: VmRequest, { ram }: VmWiring): string[] {
  const profile = profiles[shape.accelerator];
  // merging equal pages of guests would let one find out what another holds
  const machine = `microvm,acpi=off,x-option-roms=off,auto-kernel-cmdline=on,mem-merge=off,${profile.machine}`;
  const backend = memoryBackend(shape, share !== undefined, ram);
  return [
    ...['-M', backend.length === 0 ? machine : `${machine},memory-backend=ram`],
    ...['-accel', profile.accelerator, '-cpu', profile.cpu],
    ...['-smp', String(checkCount('vcpus', shape.vcpus))],
    ...['-m', `${checkMemory(shape.memoryMiB)}M`],
    ...backend,
    // virtiofsd and vhost devices know only the modern register layout
    ...['-global', 'virtio-mmio.force-legacy=false'],
  ];
}

function memoryBackend({ memoryMiB }: VmShape, shared: boolean, ram: VmWiring['ram']): string[] {
  const size = memoryMiB * 1024 * 1024;
  if (ram !== undefined) {
    const file = { size, 'mem-path': ownDescriptor(ram.fd), share: ram.shared };
    return object('memory-backend-file', 'ram', file);
  }
  // the share server maps the guest's memory
  return shared ? object('memory-backend-memfd', 'ram', { size, share: true }) : [];
}

/** How many network devices a microVM has. */
export function nicSlotsOf({ nicSlots, share }: Pick<VmRequest, 'nicSlots' | 'share'>): number {
  return nicSlots ?? usualNicSlots(share !== undefined);
}

/**
 * The slots in their fixed order, at most eight: it decides each device's address and interrupt,
 * and is part of a template's key.
 */
function deviceArguments(request: VmRequest, wiring: VmWiring): string[] {
  const { imageDisk, scratchDisk, share } = request;
  const nicSlots = nicSlotsOf(request);
  return [
    ...agentChannel(wiring),
    ...Array.from({ length: nicSlots }, (_, slot) => nicSlot(slot)).flat(),
    ...(imageDisk === undefined ? [] : diskSlot('image', imageDisk, wiring)),
    ...(scratchDisk === undefined ? [] : diskSlot('scratch', scratchDisk, wiring)),
    ...device('virtio-scsi-device', 'scsi0', {}),
    ...(share === undefined ? [] : shareSlot(share, wiring)),
    ...object('rng-builtin', 'entropy', {}),
    ...device('virtio-rng-device', 'rng0', { rng: 'entropy' }),
    ...device('virtio-balloon-device', 'balloon0', { 'free-page-reporting': true }),
  ];
}

function agentChannel({ agentFd, vsockCid, vhostFd }: VmWiring): string[] {
  if (vsockCid !== undefined) {
    const vhostfd = String(given(vhostFd, 'vhost-vsock'));
    return device('vhost-vsock-device', 'agent0', { 'guest-cid': vsockCid, vhostfd });
  }
  return [
    ...['-chardev', `socket,id=agent,fd=${agentFd},server=on,wait=off`],
    // port 0 is kept for a console; each port costs the guest two queues
    ...device('virtio-serial-device', 'serial0', { max_ports: 2 }),
    ...device('virtserialport', 'agent0', { bus: 'serial0.0', chardev: 'agent', name: agentPortName }),
  ];
}

/** A hub takes its other end, a tap, at any time: before the guest runs, after a snapshot is restored, or later. */
function nicSlot(slot: number): string[] {
  return [
    ...['-netdev', JSON.stringify({ type: 'hubport', id: `nic${slot}`, hubid: slot })],
    // the agent finds the device by this address, and sets the one it is to have
    ...device('virtio-net-device', `net${slot}`, { netdev: `nic${slot}`, mac: `02:00:00:00:00:0${slot}` }),
  ];
}

function diskSlot(slot: DiskSlot, disk: Disk | 'empty', { diskFds }: VmWiring): string[] {
  const fd = disk === 'empty' ? undefined : given(diskFds?.[slot], `the ${slot} disk`);
  const file = disk === 'empty' || fd === undefined ? emptyFile : slotFile(slot, disk, fd);
  return [
    ...(fd === undefined ? [] : ['-add-fd', `fd=${fd},set=${fd}`]),
    ...['-blockdev', JSON.stringify(slotNode(slot, file))],
    ...device('virtio-blk-device', `${slot}0`, {
      drive: slot,
      serial: disk === 'empty' ? slot : checkSerial(disk.serial),
      // the default stops the VM, and the guest would hang on a full host disk
      werror: 'report',
      rerror: 'report',
    }),
  ];
}

function shareSlot({ tag }: NonNullable<VmRequest['share']>, { shareFd }: VmWiring): string[] {
  return [
    ...['-chardev', `socket,id=share,fd=${given(shareFd, 'its share server')}`],
    ...device('vhost-user-fs-device', 'share0', { chardev: 'share', tag }),
  ];
}

function device(driver: string, id: string, properties: object): string[] {
  return ['-device', JSON.stringify({ driver, id, ...properties })];
}

function object(type: string, id: string, properties: object): string[] {
  return ['-object', JSON.stringify({ 'qom-type': type, id, ...properties })];
}

function kernelCommandLine(shape: VmShape, { tscKhz }: VmWiring): string {
  for (const parameter of shape.kernelParameters) {
    if (!/^[!-~]+$/.test(parameter)) {
      throw new HrunError(
        'INVALID_ARGUMENT',
        `kernel parameter ${JSON.stringify(parameter)} is empty or holds a blank or a control character`,
      );
    }
  }
  const parameters = [
    'console=ttyS0',
    'quiet',
    'panic=-1',
    'reboot=t',
    // free memory is reported to the host in pieces of 128 KiB: of the default, 2 MiB, too little comes together
    'page_reporting.page_reporting_order=5',
    ...profiles[shape.accelerator].kernel,
  ];
  // under TCG the guest's counter is the host's, which it cannot measure: it would fall back to 10 ms ticks
  if (shape.accelerator === 'tcg' && tscKhz !== undefined) parameters.push(`tsc_early_khz=${tscKhz}`);
  if (shape.transport === 'vsock') parameters.push('hrun.transport=vsock');
  return [...parameters, ...shape.kernelParameters].join(' ');
}

function checkMemory(memoryMiB: number): number {
  if (checkCount('memoryMiB', memoryMiB) >= minMemoryMiB) return memoryMiB;
  throw new HrunError('INVALID_ARGUMENT', `a microVM of ${memoryMiB} MiB is too small to boot`, {
    hint: `give it at least ${minMemoryMiB} MiB`,
  });
}

function checkCount(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new HrunError('INVALID_ARGUMENT', `${name} of a microVM is ${value}, not a positive whole number`);
}
