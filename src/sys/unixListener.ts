import { chmodSync } from 'node:fs';
import { checked, libc } from './libc.ts';
import { unixAddress } from './unixAddress.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;

export interface UnixListener extends Disposable {
  readonly fd: number;
}

/**
 * A unix stream socket that listens at `path` (mode 0600) before any program serves it, to be inherited by one:
 * clients can connect at once and wait in the backlog. Disposing closes this process's descriptor, not the path.
 */
export function listenUnix(path: string): UnixListener {
  const { socket, bind, listen, close } = libc();
  const address = unixAddress(path);
  const fd = checked(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), 'socket', path);
  try {
    checked(bind(fd, address, address.length), 'bind', path);
    chmodSync(path, 0o600);
    checked(listen(fd, 4), 'listen', path);
  } catch (cause) {
    close(fd);
    throw cause;
  }
  return { fd, [Symbol.dispose]: () => void close(fd) };
}
