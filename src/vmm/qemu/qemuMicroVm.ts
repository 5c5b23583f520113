import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { z } from 'zod';
import type { HrunError } from '../../base/errors.ts';
import type { ProcessIdentity } from '../../sys/processes.ts';
import { connectVsock } from '../../sys/vsock.ts';
import { leavePlace } from '../jail/placeVm.ts';
import type { Disk, DiskSlot, MicroVm, NicCable, OpenDisk, VmEnd, VmRecord } from '../microVm.ts';
import { findOutOfMemory } from '../outOfMemory.ts';
import { connectUnix } from './connectUnix.ts';
import { ConsoleLog } from './consoleLog.ts';
import { killEmulator } from './emulator.ts';
import { saveState } from './guestState.ts';
import { plugDisk, plugOpenDisk, unplugDisk } from './hotplug.ts';
import { plugNic, unplugNic } from './nic.ts';
import type { QmpConnection, QmpEvent } from './qmp.ts';
import { removeRunFiles, runFiles } from './runFiles.ts';
import { DiskSlots } from './slots.ts';

/** The agent's port where the transport is AF_VSOCK. */
export const agentVsockPort = 1024;
const consoleLimitMs = 5000;

export interface VmParts {
  readonly record: VmRecord;
  /** Negotiated; owned by the VM from now on. */
  readonly qmp: QmpConnection;
  /** How QEMU ended, in one line; unknown for a VM that another process started. */
  readonly exited?: Promise<string>;
  /** As query-status tells. */
  readonly status: string;
}

/** A microVM that QEMU runs, whether this process started it or found it. */
export class QemuMicroVm implements MicroVm {
  readonly record: VmRecord;
  readonly ended: Promise<VmEnd>;
  readonly #qmp: QmpConnection;
  readonly #console: ConsoleLog;
  readonly #slots: DiskSlots;
  readonly #exited: Promise<string>;
  readonly #end = Promise.withResolvers<VmEnd>();
  #killed = false;
  #askingStatus = false;
  #statusIsOld = false;
  #endSeen = false;
  #agentSocket: Socket | undefined;

  constructor({ record, qmp, exited, status }: VmParts) {
    this.record = record;
    this.#qmp = qmp;
    this.#console = new ConsoleLog(qmp);
    this.#slots = new DiskSlots(qmp, record.pid);
    this.#exited = exited ?? Promise.resolve(`QEMU (pid ${record.pid}) is gone`);
    this.ended = this.#end.promise;
    qmp.onEvent((event) => this.#handleEvent(event));
    void qmp.closed.then((reason) => this.#handleClose(reason));
    this.#handleStatus(status);
  }

  async dial(signal: AbortSignal): Promise<Duplex> {
    this.#agentSocket?.destroy();
    const { vsockCid, runDir } = this.record;
    this.#agentSocket =
      vsockCid === undefined
        ? await connectUnix(runFiles(runDir).agent, signal)
        : await connectVsock({ cid: vsockCid, port: agentVsockPort }, signal);
    return this.#agentSocket;
  }

  plugDisk(disk: Disk, signal: AbortSignal): Promise<void> {
    return plugDisk(this.#qmp, this.record.pid, disk, signal);
  }

  plugOpenDisk(disk: OpenDisk, signal: AbortSignal): Promise<void> {
    return plugOpenDisk(this.#qmp, this.record.pid, disk, signal);
  }

  unplugDisk(serial: string, signal: AbortSignal): Promise<void> {
    return unplugDisk(this.#qmp, serial, signal);
  }

  plugNic(slot: number, cable: NicCable, signal: AbortSignal): Promise<void> {
    return plugNic(this.#qmp, slot, cable, signal);
  }

  unplugNic(slot: number, signal: AbortSignal): Promise<void> {
    return unplugNic(this.#qmp, slot, signal);
  }

  fillSlot(slot: DiskSlot, disk: Disk | 'empty', signal: AbortSignal): Promise<void> {
    return this.#slots.fill(slot, disk, signal);
  }

  async pause(signal: AbortSignal): Promise<void> {
    await this.#qmp.execute('stop', {}, signal);
  }

  async resume(signal: AbortSignal): Promise<void> {
    await this.#qmp.execute('cont', {}, signal);
  }

  save(signal: AbortSignal): Promise<Buffer> {
    return saveState(this.#qmp, signal);
  }

  consoleTail(signal: AbortSignal): Promise<string> {
    return this.#console.read(signal);
  }

  async kill(): Promise<void> {
    this.#killed = true;
    await killEmulator(this.#identity);
    // whoever has its other end has no microVM to speak for
    this.#agentSocket?.destroy();
    this.#end.resolve({ kind: 'killed' });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    this.#agentSocket?.destroy();
    this.#qmp[Symbol.dispose]();
    // nobody waits for it
    void leavePlace(this.record.cgroups ?? []);
    await removeRunFiles(this.record.runDir);
  }

  get #identity(): ProcessIdentity {
    return { pid: this.record.pid, startTicks: this.record.pidStartTicks };
  }

  #handleEvent({ event, data }: QmpEvent): void {
    if (event === 'SHUTDOWN' && data.guest === true) void this.#endByGuest();
    // an emulator that cannot go on (KVM internal error) only stops
    if (event === 'STOP') void this.#askStatus();
  }

  /** One question at a time: an emulator that was taken over could cause any number of them. */
  async #askStatus(): Promise<void> {
    this.#statusIsOld = true;
    if (this.#askingStatus) return;
    this.#askingStatus = true;
    while (this.#statusIsOld) {
      this.#statusIsOld = false;
      const status = await this.#qmp
        .execute('query-status', {}, AbortSignal.timeout(consoleLimitMs))
        .then(parseStatus)
        .catch(() => undefined); // then the connection is closing, and its end tells
      if (status !== undefined) this.#handleStatus(status);
    }
    this.#askingStatus = false;
  }

  #handleStatus(status: string): void {
    if (status === 'shutdown' || status === 'guest-panicked') void this.#endByGuest();
    if (status === 'internal-error') {
      this.#end.resolve({ kind: 'vmm-died', detail: 'QEMU stopped with an internal error' });
    }
  }

  async #endByGuest(): Promise<void> {
    if (this.#endSeen) return;
    this.#endSeen = true;
    const tail = await this.#console.read(AbortSignal.timeout(consoleLimitMs)).catch(() => '');
    // with panic=-1 a panic ends like a reboot; only the console tells them apart
    this.#end.resolve({ kind: tail.includes('Kernel panic - not syncing') ? 'guest-panic' : 'guest-reset' });
  }

  async #handleClose(reason: HrunError): Promise<void> {
    // without its control channel it cannot be governed, so it does not go on
    await killEmulator(this.#identity).catch(() => {});
    this.#agentSocket?.destroy();
    const outOfMemory = await findOutOfMemory(this.record.cgroups ?? []);
    const said = reason.code === 'QEMU_FAILED' ? reason.message : await this.#exited;
    const detail = outOfMemory?.message ?? said;
    this.#end.resolve(
      this.#killed ? { kind: 'killed' } : { kind: 'vmm-died', detail, ...(outOfMemory && { outOfMemory }) },
    );
  }
}

const Status = z.object({ status: z.string() });

/** The run state in an answer to query-status. */
export function parseStatus(answer: unknown): string {
  return Status.parse(answer).status;
}
