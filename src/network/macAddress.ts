import { createHash } from 'node:crypto';
import { HrunError } from '../base/errors.ts';

/** `02:42:ac:11:00:02`, lower case. @throws HrunError INVALID_ARGUMENT also for one that no single device can have */
export function parseMac(text: string): string {
  const mac = text.toLowerCase().replaceAll('-', ':');
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac)) {
    throw new HrunError('INVALID_ARGUMENT', `invalid MAC address: "${text}"`);
  }
  if ((macBytes(mac).readUInt8(0) & 1) === 1 || mac === '00:00:00:00:00:00') {
    throw new HrunError('INVALID_ARGUMENT', `the MAC address ${mac} is no device's own`);
  }
  return mac;
}

export function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

export function formatMac(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** A locally administered address that is always the same for a name. */
export function macOf(name: string): string {
  const bytes = createHash('sha256').update(name).digest().subarray(0, 6);
  bytes.writeUInt8((bytes.readUInt8(0) & 0xfc) | 0x02, 0);
  return formatMac(bytes);
}
