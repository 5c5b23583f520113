import { closeSync, fstatSync, openSync, readdirSync, readlinkSync } from 'node:fs';
import { checked, libc } from './libc.ts';

const CLONE_NEWNET = 0x4000_0000;
const SIOCGSKNS = 0x894c;
// the same on x86_64 and aarch64
const SYS_pidfd_open = 434;
const SYS_pidfd_getfd = 438;
const noArgument = new Uint8Array(0);

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
    return {
      fd,
      identity: identityOf(fd),
      run: (work) => enter(fd, subject, work),
      [Symbol.dispose]: () => closeSync(fd),
    };
  } catch (cause) {
    closeSync(fd);
    throw cause;
  }
}

/** Makes a network namespace with nothing in it but a loopback that is down. It goes with the last that holds it. */
export function newNetNamespace(): NetNamespace {
  home ??= openSync('/proc/thread-self/ns/net', 'r');
  const { setns, unshare } = libc();
  checked(unshare(CLONE_NEWNET), 'unshare', 'the network namespace');
  try {
    return netNamespaceOf(openSync('/proc/thread-self/ns/net', 'r'));
  } finally {
    if (setns(home, CLONE_NEWNET) !== 0) process.abort();
  }
}

/**
 * The network namespace of the first tap that another process holds open; undefined when it has none, or may not be
 * looked at.
 */
export function namespaceOfTap(pid: number): NetNamespace | undefined {
  const { syscall, ioctl, close } = libc();
  const pidfd = syscall(SYS_pidfd_open, pid, 0, 0, 0);
  if (pidfd < 0) return undefined;
  try {
    for (const number of tapsOf(pid)) {
      const tap = syscall(SYS_pidfd_getfd, pidfd, number, 0, 0);
      if (tap < 0) continue;
      const netns = ioctl(tap, SIOCGSKNS, noArgument);
      close(tap);
      if (netns >= 0) return netNamespaceOf(netns);
    }
    return undefined;
  } finally {
    close(pidfd);
  }
}

function tapsOf(pid: number): number[] {
  const directory = `/proc/${pid}/fd`;
  try {
    return readdirSync(directory)
      .filter((number) => readlinkSync(`${directory}/${number}`) === '/dev/net/tun')
      .map(Number);
  } catch {
    return []; // it ended meanwhile
  }
}

let home: number | undefined;

function enter<T>(fd: number, subject: string, work: () => T): T {
  home ??= openSync('/proc/thread-self/ns/net', 'r');
  // to be where one is already needs no rights
  if (identityOf(fd) === identityOf(home)) return synchronous(work);
  const { setns } = libc();
  checked(setns(fd, CLONE_NEWNET), 'setns', subject);
  try {
    return synchronous(work);
  } finally {
    // from the wrong namespace nothing right can be done any more
    if (setns(home, CLONE_NEWNET) !== 0) process.abort();
  }
}

function synchronous<T>(work: () => T): T {
  const result = work();
  // what it still has to do would happen at home
  if (result instanceof Promise) throw new Error('only synchronous work can be done in a namespace');
  return result;
}

function identityOf(fd: number): string {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return `${dev}:${ino}`;
}
