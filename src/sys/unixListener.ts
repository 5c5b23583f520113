import { chmodSync } from 'node:fs';
import { checked, libc } from './libc.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
/** sun_path of unix(7), its final NUL included. */
const maxUnixPathBytes = 108;

export interface UnixListener extends Disposable {
  readonly fd: number;
}

/**
 * A unix stream socket that listens at `path` (mode 0600) before any program serves it, to be inherited by one:
 * clients can connect at once and wait in the backlog. Disposing closes this process's descriptor, not the path.
 */
export function listenUnix(path: string): UnixListener {
  const { socket, bind, listen, close } = libc();
  const sunPath = Buffer.from(path);
  if (sunPath.length >= maxUnixPathBytes) {
    throw new Error(`${path} is longer than ${maxUnixPathBytes - 1} bytes, the limit of a unix socket`);
  }
  const fd = checked(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), 'socket', path);
  try {
    const address = Buffer.alloc(2 + sunPath.length + 1);
    address.writeUInt16LE(AF_UNIX, 0);
    sunPath.copy(address, 2);
    checked(bind(fd, address, address.length), 'bind', path);
    chmodSync(path, 0o600);
    checked(listen(fd, 4), 'listen', path);
  } catch (cause) {
    close(fd);
    throw cause;
  }
  return { fd, [Symbol.dispose]: () => void close(fd) };
}
