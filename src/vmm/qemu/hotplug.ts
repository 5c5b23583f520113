import { HrunError, isHrunError } from '../../base/errors.ts';
import type { Disk, OpenDisk } from '../microVm.ts';
import { blockNode, checkSerial, openDiskNode } from './blockNode.ts';
import { scsiBus } from './commandLine.ts';
import { giveDisk, giveOpenDisk, takeBack } from './givenDisk.ts';
import type { QmpConnection } from './qmp.ts';

const undoLimitMs = 5000;
/** How QEMU says that another process holds the lock of a file (util/osdep.c, block/file-posix.c). */
const lockRefused = /Failed to (?:get (?:shared )?"[a-z ]+" lock|lock byte)/;

/**
 * Gives the guest one more SCSI disk. A failure leaves nothing plugged.
 * @param pid of QEMU
 */
export async function plugDisk(
  qmp: QmpConnection,
  pid: number,
  disk: Disk,
  signal: AbortSignal,
): Promise<void> {
  const fdset = await giveDisk(qmp, pid, disk, signal);
  await plugNode(qmp, fdset, disk.serial, blockNode(namesOf(disk.serial).node, disk, fdset), signal);
}

/** As `plugDisk`, of a file that is open already. @throws also HrunError DISK_IN_USE */
export async function plugOpenDisk(
  qmp: QmpConnection,
  pid: number,
  disk: OpenDisk,
  signal: AbortSignal,
): Promise<void> {
  const fdset = await giveOpenDisk(qmp, pid, disk, signal);
  try {
    const node = openDiskNode(namesOf(disk.serial).node, disk, fdset);
    await plugNode(qmp, fdset, disk.serial, node, signal);
  } catch (cause) {
    if (!isHrunError(cause, 'QEMU_FAILED') || !lockRefused.test(cause.message)) throw cause;
    throw new HrunError('DISK_IN_USE', `the file of the disk "${disk.serial}" is locked by another`, {
      cause,
    });
  }
}

/** @param fdset what the node is opened from; closed then */
async function plugNode(
  qmp: QmpConnection,
  fdset: number,
  serial: string,
  block: object,
  signal: AbortSignal,
): Promise<void> {
  const { node, device } = namesOf(serial);
  let added = false;
  try {
    await qmp.execute('blockdev-add', block, signal);
    added = true;
    await qmp.execute(
      'device_add',
      {
        driver: 'scsi-hd',
        bus: scsiBus,
        drive: node,
        id: device,
        serial,
        werror: 'report',
        rerror: 'report',
        // not spinning: the guest need not order its requests
        rotation_rate: 1,
      },
      signal,
    );
  } catch (cause) {
    const limit = AbortSignal.timeout(undoLimitMs);
    if (added) await qmp.execute('blockdev-del', { 'node-name': node }, limit).catch(() => {});
    throw cause;
  } finally {
    // its node has a copy
    await takeBack(qmp, fdset, AbortSignal.timeout(undoLimitMs)).catch(() => {});
  }
}

/** Takes a plugged disk away and returns when the host file is closed. @throws HrunError NOT_FOUND */
export async function unplugDisk(qmp: QmpConnection, serial: string, signal: AbortSignal): Promise<void> {
  const { node, device } = namesOf(serial);
  const deleted = qmp.nextEvent(
    ({ event, data }) => event === 'DEVICE_DELETED' && data.device === device,
    signal,
  );
  deleted.catch(() => {}); // when device_del itself fails
  try {
    await qmp.execute('device_del', { id: device }, signal);
  } catch (cause) {
    if (!(cause instanceof HrunError) || cause.code !== 'QEMU_FAILED') throw cause;
    throw new HrunError('NOT_FOUND', `no disk "${serial}" is plugged`, { cause });
  }
  await deleted;
  await qmp.execute('blockdev-del', { 'node-name': node }, signal);
}

function namesOf(serial: string): { readonly node: string; readonly device: string } {
  const name = `plugged-${checkSerial(serial)}`;
  return { node: name, device: `${name}-disk` };
}
