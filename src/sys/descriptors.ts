import type { Socket } from 'node:net';
import { checked, libc } from './libc.ts';

const F_SETFD = 2;
const FD_CLOEXEC = 1;

/** Keeps `fd` from being inherited by programs that this process starts. */
export function setCloseOnExec(fd: number): void {
  checked(libc().fcntl(fd, F_SETFD, FD_CLOEXEC), 'fcntl', `fd ${fd}`);
}

/** The descriptor below a connected socket, or undefined when it is closed. It stays the socket's own. */
export function descriptorOf(socket: Socket): number | undefined {
  // no public accessor exists; `_handle.fd` has been there since Node.js 0.x
  const { _handle: handle } = socket as unknown as { readonly _handle?: { readonly fd?: number } | null };
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined;
}
