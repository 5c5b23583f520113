import { closeSync, openSync } from 'node:fs';
import { checked, libc } from './libc.ts';

const TUNSETIFF = 0x4004_54ca;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
/** struct ifreq: a name of 16 bytes, then a union of 24. */
const ifreqBytes = 40;
const nameBytes = 16;

/** An open tap: the interface lives until the last copy of the descriptor is closed. May be disposed of twice. */
export interface Tap extends Disposable {
  readonly fd: number;
  readonly name: string;
}

/**
 * Makes a tap in the network namespace of this thread (see NetNamespace.run), down and without a queue's header.
 * @param name of the interface, at most 15 bytes; it must not exist
 * @throws the system error: EBUSY for a name in use, EPERM without CAP_NET_ADMIN, ENOENT without /dev/net/tun
 */
export function openTap(name: string): Tap {
  const ifreq = Buffer.alloc(ifreqBytes);
  if (ifreq.write(name, 0, nameBytes - 1) !== Buffer.byteLength(name) || name === '') {
    throw new Error(`"${name}" is no name of an interface`);
  }
  ifreq.writeUInt16LE(IFF_TAP | IFF_NO_PI, nameBytes);
  const fd = openSync('/dev/net/tun', 'r+');
  try {
    checked(libc().ioctl(fd, TUNSETIFF, ifreq), 'ioctl TUNSETIFF', name);
  } catch (cause) {
    closeSync(fd);
    throw cause;
  }
  let open = true;
  return {
    fd,
    name,
    [Symbol.dispose]: () => {
      // the number may be somebody else's by the second time
      if (open) closeSync(fd);
      open = false;
    },
  };
}
