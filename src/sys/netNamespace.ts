import { closeSync, fstatSync, openSync } from 'node:fs';
import { checked, libc } from './libc.ts';

const CLONE_NEWNET = 0x4000_0000;

/** A network namespace, kept alive for as long as it is open. */
export interface NetNamespace extends Disposable {
  readonly fd: number;
  /** Device and inode of its file: equal for the same namespace, however it was reached. */
  readonly identity: string;
  /**
   * Runs `work`, synchronous code, with this thread inside the namespace, and comes back. Sockets opened and processes
   * started there belong to the namespace from then on; everything else of this process stays where it is.
   * @throws EPERM without CAP_SYS_ADMIN over the namespace
   */
  run<T>(work: () => T): T;
}

/**
 * Opens a network namespace by a path such as `/proc/PID/ns/net` or one that `ip netns` made.
 * @throws the system error, or EINVAL for a file that is no network namespace
 */
export function openNetNamespace(path: string): NetNamespace {
  return netNamespaceOf(openSync(path, 'r'), path);
}

/** The network namespace of an open descriptor, which it then owns. @throws EINVAL */
function netNamespaceOf(fd: number, subject = `fd ${fd}`): NetNamespace {
  try {
    // entering proves what it is, and whether this process may
    enter(fd, subject, () => undefined);
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return {
      fd,
      identity: `${dev}:${ino}`,
      run: (work) => enter(fd, subject, work),
      [Symbol.dispose]: () => closeSync(fd),
    };
  } catch (cause) {
    closeSync(fd);
    throw cause;
  }
}

let home: number | undefined;

function enter<T>(fd: number, subject: string, work: () => T): T {
  home ??= openSync('/proc/thread-self/ns/net', 'r');
  const { setns } = libc();
  checked(setns(fd, CLONE_NEWNET), 'setns', subject);
  try {
    const result = work();
    // what it still has to do would happen at home
    if (result instanceof Promise) throw new Error('only synchronous work can be done in a namespace');
    return result;
  } finally {
    // from the wrong namespace nothing right can be done any more
    if (setns(home, CLONE_NEWNET) !== 0) process.abort();
  }
}
