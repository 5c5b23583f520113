import { Socket } from 'node:net';
import { checked, libc } from './libc.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;

/** Two connected unix stream sockets. */
export interface SocketPair {
  /** To be destroyed by the caller. */
  readonly socket: Socket;
  /** To be given to another process; disposing closes this process's copy. */
  readonly other: Disposable & { readonly fd: number };
}

/** @throws the system error */
export function socketPair(): SocketPair {
  const { socketpair, close } = libc();
  const fds = Int32Array.of(-1, -1);
  checked(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 'socketpair', 'unix');
  const [own = -1, fd = -1] = fds;
  return { socket: new Socket({ fd: own }), other: { fd, [Symbol.dispose]: () => void close(fd) } };
}
