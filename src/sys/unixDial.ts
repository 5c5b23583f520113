import { checked, libc, systemError } from './libc.ts';
import { unixAddress } from './unixAddress.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;

/**
 * Connects to a unix stream socket for another program, which inherits the descriptor: nothing is read here. Disposing
 * closes this process's copy.
 * @throws the system error
 */
export async function dialUnix(path: string): Promise<Disposable & { readonly fd: number }> {
  const { socket, connect, close } = libc();
  const address = unixAddress(path);
  const fd = checked(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), 'socket', path);
  const errno = await connect(fd, address);
  if (errno !== 0) {
    close(fd);
    throw systemError('connect', path, errno);
  }
  return { fd, [Symbol.dispose]: () => void close(fd) };
}
