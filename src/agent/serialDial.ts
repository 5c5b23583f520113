import type { Dial } from './dial.ts';
import { openLink } from './link.ts';

/** Dials over a virtio-serial port: each call is one epoch of docs/link.md over a connection that `openPort` makes. */
export function serialDial(openPort: Dial): Dial {
  return async (signal) => openLink(await openPort(signal), signal);
}
