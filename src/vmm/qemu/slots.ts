import { HrunError } from '../../base/errors.ts';
import type { Disk, DiskSlot } from '../microVm.ts';
import { slotFile, slotNode } from './blockNode.ts';
import type { QmpConnection } from './qmp.ts';

/** Changes the files below the disk slots of one VM while it runs or is paused. */
export class DiskSlots {
  readonly #qmp: QmpConnection;
  /** Nodes that were added by name, and have to be removed by name. */
  readonly #added = new Map<DiskSlot, string>();
  #count = 0;

  constructor(qmp: QmpConnection) {
    this.#qmp = qmp;
  }

  /**
   * Puts `disk` below the slot; what was there before is closed soon after. The guest has to drop what it cached of the slot.
   * @throws HrunError INVALID_ARGUMENT for a disk that the slot does not take, QEMU_FAILED when QEMU refuses
   */
  async fill(slot: DiskSlot, disk: Disk | 'empty', signal: AbortSignal): Promise<void> {
    if (disk !== 'empty' && disk.serial !== slot) {
      throw new HrunError('INVALID_ARGUMENT', `the disk of the ${slot} slot is called "${disk.serial}"`);
    }
    this.#count += 1;
    const node = `${slot}-${this.#count}`;
    // both at once: without the first the second fails as well
    const added = this.#qmp.execute('blockdev-add', { ...slotFile(slot, disk), 'node-name': node }, signal);
    const reopened = this.#qmp.execute('blockdev-reopen', { options: [slotNode(slot, node)] }, signal);
    reopened.catch(() => {});
    await added;
    try {
      await reopened;
    } catch (cause) {
      await this.#remove(node).catch(() => {}); // the first failure is the one to tell
      throw cause;
    }
    const before = this.#added.get(slot);
    this.#added.set(slot, node);
    // beside the guest, which may run already
    if (before !== undefined) void this.#remove(before).catch(() => {});
  }

  async #remove(node: string): Promise<void> {
    await this.#qmp.execute('blockdev-del', { 'node-name': node }, AbortSignal.timeout(5000));
  }
}
