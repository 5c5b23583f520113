/** Of eight transports that QEMU's machine has: what the agent's channel, SCSI, entropy and balloon leave. */
const besidesDevices = 4;
const diskSlots = 2;

/** Network devices that every microVM has, used or not. */
export function usualNicSlots(share: boolean): number {
  return besidesDevices - diskSlots - (share ? 1 : 0);
}

/** Network devices that one can have whose disks are all plugged into SCSI. */
export function mostNicSlots(share: boolean): number {
  return besidesDevices - (share ? 1 : 0);
}
