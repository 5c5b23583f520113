import { randomInt } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { abortable } from '../../base/abort.ts';
import { HrunError, messageOf } from '../../base/errors.ts';
import { tscKhz } from '../../sys/tsc.ts';
import { dialUnix } from '../../sys/unixDial.ts';
import { listenUnix } from '../../sys/unixListener.ts';
import type { VmmDeps } from '../deps.ts';
import { firstInheritedFd } from '../jail/launch.ts';
import { leavePlace, type Place, placeVm } from '../jail/placeVm.ts';
import type { DiskSlot, MicroVm, VmRecord, VmRequest, VmTemplate } from '../microVm.ts';
import { nicSlotsOf, qemuArguments, type VmWiring } from './commandLine.ts';
import { connectUnix } from './connectUnix.ts';
import { type Emulator, killEmulator, startEmulator } from './emulator.ts';
import { loadState } from './guestState.ts';
import { openDisk, openForReading } from './hostFile.ts';
import { disconnectNics } from './nic.ts';
import { QemuMicroVm } from './qemuMicroVm.ts';
import { QmpConnection } from './qmp.ts';
import { removeRunFiles, runFiles } from './runFiles.ts';

/**
 * Starts a microVM with a cold boot. Returns once QEMU obeys; the guest is then still booting: open its agent with
 * `dial`, inside `whileRunning` so that a guest that dies on the way is told as such.
 * @throws HrunError QEMU_MISSING, JAIL_FAILED, QEMU_FAILED (with QEMU's own words), INVALID_ARGUMENT
 */
export async function bootMicroVm(request: VmRequest, deps: VmmDeps, signal: AbortSignal): Promise<MicroVm> {
  return await startMicroVm(request, {}, deps, signal);
}

/**
 * As bootMicroVm, with the guest's RAM in a memfd of `shape.memoryMiB`, so that `save` can make a template of it.
 * @param ramFd stays the caller's
 */
export async function bootForTemplate(
  request: VmRequest,
  ramFd: number,
  deps: VmmDeps,
  signal: AbortSignal,
): Promise<MicroVm> {
  return await startMicroVm(request, { ram: { fd: ramFd, shared: true } }, deps, signal);
}

/**
 * Starts a microVM as a clone of `template`, which was saved by a request of the same shape and slots. Returns once QEMU
 * obeys; the guest goes on where it was saved, or is `paused` there. Errors as bootMicroVm; a state that QEMU cannot
 * read ends it (`MicroVm.ended`).
 */
export async function restoreMicroVm(
  request: VmRequest,
  template: VmTemplate,
  paused: boolean,
  deps: VmmDeps,
  signal: AbortSignal,
): Promise<MicroVm> {
  using closing = new DisposableStack();
  // opened anew: each clone reads it from the beginning
  const stateFd = closing.adopt(openSync(`/proc/self/fd/${template.stateFd}`, 'r'), closeSync);
  return await startMicroVm(
    request,
    { ram: { fd: template.ramFd, shared: false }, incoming: { fd: stateFd, paused } },
    deps,
    signal,
  );
}

/** With descriptors as this process has them. */
interface Memory {
  readonly ram?: VmWiring['ram'];
  readonly incoming?: { readonly fd: number; readonly paused: boolean };
}

async function startMicroVm(
  request: VmRequest,
  memory: Memory,
  host: VmmDeps,
  signal: AbortSignal,
): Promise<MicroVm> {
  signal.throwIfAborted();
  const allowed = [...host.jail.allowed, ...(request.allowWeakerJail ?? [])];
  const deps: VmmDeps = { ...host, jail: { ...host.jail, allowed } };
  await using undo = new AsyncDisposableStack();
  undo.defer(() => removeRunFiles(request.runDir));
  // chosen at random among 2^31: nobody else keeps a list of those in use
  const vsockCid = request.shape.transport === 'vsock' ? randomInt(1024, 2 ** 31) : undefined;
  const place = await placeVm(request, deps.jail);
  const own = place.own.map(({ directory }) => directory);
  undo.defer(() => leavePlace(own));
  const { emulator, stateFd } = await launch(request, memory, vsockCid, place, deps, signal);
  undo.defer(() => killEmulator(emulator.identity));
  const qmp = undo.use(await openControl(request, emulator, signal));
  // a saved guest was saved without a link
  if (stateFd === undefined) await disconnectNics(qmp, nicSlotsOf(request), signal);
  else await loadState(qmp, stateFd, signal);
  const record: VmRecord = {
    id: request.id,
    runDir: request.runDir,
    pid: emulator.identity.pid,
    pidStartTicks: emulator.identity.startTicks,
    transport: request.shape.transport,
    ...(vsockCid === undefined ? {} : { vsockCid }),
    cgroups: own,
    jail: emulator.jail,
  };
  deps.log.debug({ vm: record.id, pid: record.pid }, 'microVM started');
  undo.move();
  return new QemuMicroVm({ record, qmp, exited: emulator.exited, status: 'running' });
}

async function launch(
  request: VmRequest,
  { ram, incoming }: Memory,
  vsockCid: number | undefined,
  place: Place,
  deps: VmmDeps,
  signal: AbortSignal,
): Promise<{ readonly emulator: Emulator; readonly stateFd: number | undefined }> {
  const paths = runFiles(request.runDir);
  const counterKhz = await tscKhz();
  using opened = new DisposableStack();
  // QEMU inherits sockets that already listen: clients connect at once and again after a restart of the daemon
  const inherited: number[] = [];
  /** The number that `fd` will have in QEMU. */
  const inherit = (fd: number) => firstInheritedFd + inherited.push(fd) - 1;
  const { shape, share } = request;
  const disks = openDisks(request, opened);
  const readable = (path: string) => inherit(opened.use(openForReading(path)).fd);
  const wiring: VmWiring = {
    controlFd: inherit(opened.use(listenUnix(paths.control)).fd),
    agentFd: vsockCid === undefined ? inherit(opened.use(listenUnix(paths.agent)).fd) : undefined,
    vsockCid,
    vhostFd: vsockCid === undefined ? undefined : inherit(openVhost(opened)),
    tscKhz: counterKhz,
    ram: ram && { ...ram, fd: inherit(ram.fd) },
    boot: incoming
      ? undefined
      : { kernelFd: readable(shape.kernelPath), initramfsFd: readable(shape.initramfsPath) },
    diskFds: Object.fromEntries(disks.map(({ slot, fd }) => [slot, inherit(fd)])),
    shareFd: share && inherit(opened.use(await dialShare(request.id, share.socketPath)).fd),
    incoming,
  };
  const stateFd = incoming && inherit(incoming.fd);
  const written = disks.filter(({ slot }) => slot === 'scratch').map(({ sizeBytes }) => sizeBytes);
  const emulator = await startEmulator(
    {
      arguments: qemuArguments(request, wiring),
      descriptors: inherited,
      accelerator: shape.accelerator,
      preload: ram !== undefined && !ram.shared,
      cgroups: place.cgroups,
      missing: place.missing,
      // its memory may be a file as well
      fileBytes: Math.max(shape.memoryMiB * 1024 * 1024, ...written),
    },
    deps,
    signal,
  );
  return { emulator, stateFd };
}

interface SlotDisk {
  readonly slot: DiskSlot;
  readonly fd: number;
  readonly sizeBytes: number;
}

function openDisks({ imageDisk, scratchDisk }: VmRequest, opened: DisposableStack): SlotDisk[] {
  const slots = { image: imageDisk, scratch: scratchDisk } as const;
  return (['image', 'scratch'] as const).flatMap((slot) => {
    const disk = slots[slot];
    if (disk === undefined || disk === 'empty') return [];
    const { fd, sizeBytes } = opened.use(openDisk(disk));
    return [{ slot, fd, sizeBytes }];
  });
}

function openVhost(opened: DisposableStack): number {
  return opened.adopt(openSync('/dev/vhost-vsock', 'r+'), closeSync);
}

async function dialShare(id: string, socketPath: string): ReturnType<typeof dialUnix> {
  return await dialUnix(socketPath).catch((cause: unknown) => {
    throw new HrunError('VM_BOOT_FAILED', `microVM ${id} cannot reach its share server`, { cause });
  });
}

async function openControl(
  request: VmRequest,
  emulator: Emulator,
  signal: AbortSignal,
): Promise<QmpConnection> {
  using undo = new DisposableStack();
  try {
    const socket = await connectUnix(runFiles(request.runDir).control, signal);
    const qmp = undo.use(new QmpConnection(socket, `microVM ${request.id}`));
    await qmp.negotiate(signal);
    undo.move();
    return qmp;
  } catch (cause) {
    signal.throwIfAborted();
    const said = await abortable(emulator.exited, AbortSignal.any([signal, AbortSignal.timeout(1000)])).catch(
      () => messageOf(cause),
    );
    throw new HrunError('QEMU_FAILED', `microVM ${request.id} did not start: ${said}`, { cause });
  }
}
