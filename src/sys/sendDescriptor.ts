import { checked, libc } from './libc.ts';

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** struct cmsghdr with one int behind it, padded as CMSG_SPACE pads. */
const controlBytes = 24;
const controlLength = 20;

/**
 * Sends `bytes` over a connected unix stream socket together with a copy of `descriptor` (unix(7), SCM_RIGHTS), all at
 * once and without waiting. The descriptor stays the caller's.
 * @throws the system error; EAGAIN, with nothing sent, when the socket's buffer is full; EMSGSIZE when it took only a part
 */
export function sendDescriptor(socketFd: number, bytes: Uint8Array, descriptor: number): void {
  const control = Buffer.alloc(controlBytes);
  control.writeBigUInt64LE(BigInt(controlLength), 0);
  control.writeInt32LE(SOL_SOCKET, 8);
  control.writeInt32LE(SCM_RIGHTS, 12);
  control.writeInt32LE(descriptor, 16);
  const sent = Number(libc().sendmsg(socketFd, bytes, control, MSG_DONTWAIT | MSG_NOSIGNAL));
  checked(sent, 'sendmsg', `fd ${socketFd}`);
  if (sent !== bytes.length) {
    throw Object.assign(new Error(`EMSGSIZE: sendmsg fd ${socketFd}`), { code: 'EMSGSIZE' });
  }
}
