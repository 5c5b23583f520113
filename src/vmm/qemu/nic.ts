import type { NicCable } from '../microVm.ts';
import type { QmpConnection } from './qmp.ts';

const undoLimitMs = 5000;

/**
 * Pulls the cables of all network devices: a hub without another end would keep the first packet, and with it every
 * later one. To be called before the guest sends anything; a snapshot keeps it.
 */
export async function disconnectNics(qmp: QmpConnection, slots: number, signal: AbortSignal): Promise<void> {
  for (let slot = 0; slot < slots; slot++) {
    await qmp.execute('set_link', { name: namesOf(slot).device, up: false }, signal);
  }
}

/** Puts a cable onto the hub of a network device. A failure leaves nothing plugged. */
export async function plugNic(
  qmp: QmpConnection,
  slot: number,
  { kind, fd }: NicCable,
  signal: AbortSignal,
): Promise<void> {
  const { device, cable, port } = namesOf(slot);
  await using undo = new AsyncDisposableStack();
  const afterwards = (command: string, parameters: object) =>
    undo.defer(() =>
      qmp.execute(command, parameters, AbortSignal.timeout(undoLimitMs)).then(nothing, nothing),
    );
  await qmp.executeWithDescriptor('getfd', { fdname: cable }, fd, signal);
  // taken over by netdev_add, so that this fails unless that did
  afterwards('closefd', { fdname: cable });
  // not "stream", which in QEMU 7.2 looks for the descriptor in a thread that knows no monitor
  await qmp.execute('netdev_add', { type: kind, id: cable, fd: cable }, signal);
  afterwards('netdev_del', { id: cable });
  await qmp.execute('netdev_add', { type: 'hubport', id: port, hubid: slot, netdev: cable }, signal);
  afterwards('netdev_del', { id: port });
  await qmp.execute('set_link', { name: device, up: true }, signal);
  undo.move();
}

/** Takes the cable off again; QEMU's copy of its descriptor is closed then. @throws HrunError QEMU_FAILED without one */
export async function unplugNic(qmp: QmpConnection, slot: number, signal: AbortSignal): Promise<void> {
  const { device, cable, port } = namesOf(slot);
  await qmp.execute('set_link', { name: device, up: false }, signal);
  await qmp.execute('netdev_del', { id: port }, signal);
  await qmp.execute('netdev_del', { id: cable }, signal);
}

function namesOf(slot: number): { readonly device: string; readonly cable: string; readonly port: string } {
  return { device: `net${slot}`, cable: `cable${slot}`, port: `cable${slot}-port` };
}

function nothing(): void {}
