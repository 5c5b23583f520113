import { HrunError } from '../../base/errors.ts';
import type { Disk } from '../microVm.ts';
import { blockNode, checkSerial } from './blockNode.ts';
import { scsiBus } from './commandLine.ts';
import { giveDisk, takeBack } from './givenDisk.ts';
import type { QmpConnection } from './qmp.ts';

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
  const { node, device } = namesOf(disk.serial);
  const fdset = await giveDisk(qmp, pid, disk, signal);
  let added = false;
  try {
    await qmp.execute('blockdev-add', blockNode(node, disk, fdset), signal);
    added = true;
    await qmp.execute(
      'device_add',
      {
        driver: 'scsi-hd',
        bus: scsiBus,
        drive: node,
        id: device,
        serial: disk.serial,
        werror: 'report',
        rerror: 'report',
        // not spinning: the guest need not order its requests
        rotation_rate: 1,
      },
      signal,
    );
  } catch (cause) {
    const limit = AbortSignal.timeout(5000);
    if (added) await qmp.execute('blockdev-del', { 'node-name': node }, limit).catch(() => {});
    throw cause;
  } finally {
    // its node has a copy
    await takeBack(qmp, fdset, AbortSignal.timeout(5000)).catch(() => {});
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
