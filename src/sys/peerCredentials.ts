import type { Socket } from 'node:net';
import { descriptorOf } from './descriptors.ts';
import { checked, libc } from './libc.ts';

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

export interface PeerCredentials {
  /** As seen from this process's pid namespace; 0 when the peer is not in it. */
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Who connected to a unix socket, as the kernel recorded it at connect (unix(7), SO_PEERCRED).
 * @throws when the socket is closed or no unix socket
 */
export function peerCredentials(socket: Socket): PeerCredentials {
  const fd = descriptorOf(socket);
  if (fd === undefined) throw new Error('the socket is closed');
  const ucred = Buffer.alloc(12);
  const length = Uint32Array.of(ucred.length);
  checked(libc().getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ucred, length), 'getsockopt', `fd ${fd}`);
  return { pid: ucred.readInt32LE(0), uid: ucred.readUInt32LE(4), gid: ucred.readUInt32LE(8) };
}
