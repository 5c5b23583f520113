import { Socket } from 'node:net';
import { setCloseOnExec } from './descriptors.ts';
import { checked, libc, systemError } from './libc.ts';

const AF_UNIX = 1;
const AF_VSOCK = 40;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const O_NONBLOCK = 0o4000;
const F_GETFL = 3;
const F_SETFL = 4;
const SO_VM_SOCKETS_CONNECT_TIMEOUT = 6;

export interface VsockAddress {
  readonly cid: number;
  readonly port: number;
}

/**
 * Connects once. A guest without a listener refuses with ECONNRESET; a CID that nobody answers for is ETIMEDOUT
 * after 250 ms, during which one thread of the pool is busy; a kernel without vsock is EAFNOSUPPORT or ENODEV.
 */
export async function connectVsock({ cid, port }: VsockAddress, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted();
  const { socket, setsockopt, connect, close } = libc();
  const subject = `vsock ${cid}:${port}`;
  const fd = checked(socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0), 'socket', subject);
  try {
    const timeval = Buffer.alloc(16);
    timeval.writeBigInt64LE(250_000n, 8);
    checked(
      setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, timeval, timeval.length),
      'setsockopt',
      subject,
    );
    const errno = await connect(fd, vsockSockaddr(cid, port));
    if (errno !== 0) throw systemError('connect', subject, errno);
    signal.throwIfAborted();
  } catch (cause) {
    close(fd);
    throw cause;
  }
  return adoptStreamSocket(fd);
}

/**
 * Makes a net.Socket of a connected stream socket of any family, which it then owns. libuv refuses families that
 * it does not know (ERR_INVALID_FD_TYPE), so it is shown one half of a unix socket pair first and the real socket
 * is put over it: libuv registers the descriptor with epoll only at the next turn of its loop.
 */
export function adoptStreamSocket(fd: number): Socket {
  const { socketpair, close, dup2, fcntl } = libc();
  const pair = new Int32Array(2);
  checked(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 'socketpair', `fd ${fd}`);
  const [adopted = -1, other = -1] = pair;
  close(other);
  const stream = new Socket({ fd: adopted, allowHalfOpen: true, readable: true, writable: true });
  checked(dup2(fd, adopted), 'dup2', `fd ${fd}`);
  close(fd);
  setCloseOnExec(adopted);
  const flags = checked(fcntl(adopted, F_GETFL, 0), 'fcntl', `fd ${adopted}`);
  checked(fcntl(adopted, F_SETFL, flags | O_NONBLOCK), 'fcntl', `fd ${adopted}`);
  return stream;
}

/** struct sockaddr_vm of vsock(7). */
function vsockSockaddr(cid: number, port: number): Uint8Array {
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_VSOCK, 0);
  address.writeUInt32LE(port, 4);
  address.writeUInt32LE(cid, 8);
  return address;
}
