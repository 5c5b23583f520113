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

/** Puts a tap onto the hub of a network device. A failure leaves nothing plugged. */
export async function plugNic(
  qmp: QmpConnection,
  slot: number,
  tapFd: number,
  signal: AbortSignal,
): Promise<void> {
  const { device, tap, port } = namesOf(slot);
  await using undo = new AsyncDisposableStack();
  const afterwards = (command: string, parameters: object) =>
    undo.defer(() =>
      qmp.execute(command, parameters, AbortSignal.timeout(undoLimitMs)).then(nothing, nothing),
    );
  await qmp.executeWithDescriptor('getfd', { fdname: tap }, tapFd, signal);
  // taken over by netdev_add, so that this fails unless that did
  afterwards('closefd', { fdname: tap });
  await qmp.execute('netdev_add', { type: 'tap', id: tap, fd: tap }, signal);
  afterwards('netdev_del', { id: tap });
  await qmp.execute('netdev_add', { type: 'hubport', id: port, hubid: slot, netdev: tap }, signal);
  afterwards('netdev_del', { id: port });
  await qmp.execute('set_link', { name: device, up: true }, signal);
  undo.move();
}

/** Takes the tap off again; QEMU's copy of its descriptor is closed then. @throws HrunError QEMU_FAILED without one */
export async function unplugNic(qmp: QmpConnection, slot: number, signal: AbortSignal): Promise<void> {
  const { device, tap, port } = namesOf(slot);
  await qmp.execute('set_link', { name: device, up: false }, signal);
  await qmp.execute('netdev_del', { id: port }, signal);
  await qmp.execute('netdev_del', { id: tap }, signal);
}

function namesOf(slot: number): { readonly device: string; readonly tap: string; readonly port: string } {
  return { device: `net${slot}`, tap: `tap${slot}`, port: `tap${slot}-port` };
}

function nothing(): void {}
