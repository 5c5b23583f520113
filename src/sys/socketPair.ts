import { Socket } from 'node:net';
import { checked, libc } from './libc.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;

/** To be given to another process; disposing, which may happen twice, closes this process's copy. */
export interface OwnedDescriptor extends Disposable {
  readonly fd: number;
}

/** Two connected unix stream sockets. */
export interface SocketPair {
  /** To be destroyed by the caller. */
  readonly socket: Socket;
  readonly other: OwnedDescriptor;
}

/** @throws the system error */
export function socketPair(): SocketPair {
  const [own, other] = openPair();
  return { socket: new Socket({ fd: own }), other: owned(other) };
}

/** Two connected unix stream sockets that are both for others. @throws the system error */
export function descriptorPair(): readonly [OwnedDescriptor, OwnedDescriptor] {
  const [one, other] = openPair();
  return [owned(one), owned(other)];
}

function openPair(): readonly [number, number] {
  const fds = Int32Array.of(-1, -1);
  checked(libc().socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 'socketpair', 'unix');
  const [one = -1, other = -1] = fds;
  return [one, other];
}

function owned(fd: number): OwnedDescriptor {
  let open = true;
  return {
    fd,
    [Symbol.dispose]: () => {
      if (open) libc().close(fd);
      open = false;
    },
  };
}
