import { HrunError } from '../../base/errors.ts';
import type { Disk, DiskSlot } from '../microVm.ts';
import { emptyFile, slotFile, slotNode } from './blockNode.ts';
import { giveDisk, takeBack } from './givenDisk.ts';
import type { QmpConnection } from './qmp.ts';

/** Changes the files below the disk slots of one VM while it runs or is paused. */
export class DiskSlots {
  readonly #qmp: QmpConnection;
  readonly #pid: number;
  /** Nodes that were added by name, and have to be removed by name. */
  readonly #added = new Map<DiskSlot, string>();
  #count = 0;

  /** @param pid of QEMU */
  constructor(qmp: QmpConnection, pid: number) {
    this.#qmp = qmp;
    this.#pid = pid;
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
    const fdset = disk === 'empty' ? undefined : await giveDisk(this.#qmp, this.#pid, disk, signal);
    try {
      const file = disk === 'empty' || fdset === undefined ? emptyFile : slotFile(slot, disk, fdset);
      // both at once: without the first the second fails as well
      const added = this.#qmp.execute('blockdev-add', { ...file, 'node-name': node }, signal);
      const reopened = this.#qmp.execute('blockdev-reopen', { options: [slotNode(slot, node)] }, signal);
      reopened.catch(() => {});
      await added;
      await reopened;
    } catch (cause) {
      await this.#remove(node).catch(() => {}); // the first failure is the one to tell
      throw cause;
    } finally {
      // the node has a copy
      if (fdset !== undefined) void takeBack(this.#qmp, fdset, AbortSignal.timeout(5000)).catch(() => {});
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
