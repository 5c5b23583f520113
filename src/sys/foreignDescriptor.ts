import { checked, libc } from './libc.ts';

// the same on x86_64 and aarch64
const SYS_pidfd_open = 434;
const SYS_pidfd_getfd = 438;

/**
 * A descriptor here for what process `pid` has open as `number`: the same open file, with its flags and locks.
 * @throws the system error; EPERM where ptrace(2) of that process is not allowed
 */
export function takeDescriptor(pid: number, number: number): number {
  const { syscall, close } = libc();
  const pidfd = checked(syscall(SYS_pidfd_open, pid, 0, 0, 0), 'pidfd_open', `process ${pid}`);
  try {
    return checked(
      syscall(SYS_pidfd_getfd, pidfd, number, 0, 0),
      'pidfd_getfd',
      `fd ${number} of process ${pid}`,
    );
  } finally {
    close(pidfd);
  }
}
