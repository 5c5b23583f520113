import { checked, libc } from './libc.ts';

// memfd_create(2) and fcntl(2), the same on all architectures
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_SEAL_SEAL = 1;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;
const F_SEAL_WRITE = 8;

/** A file in memory without a name; disposing closes this process's descriptor of it. */
export interface Memfd extends Disposable {
  readonly fd: number;
}

/** @param name shows up in /proc/PID/maps; @throws the system error */
export function createMemfd(name: string): Memfd {
  const { memfd_create, close } = libc();
  const fd = checked(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), 'memfd_create', name);
  return { fd, [Symbol.dispose]: () => void close(fd) };
}

/**
 * From now on nobody, not even the owner, can write to the file, punch holes into it, resize it or undo this.
 * @throws EBUSY while it is mapped shared and writable somewhere
 */
export function sealMemfd({ fd }: Memfd): void {
  const seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  checked(libc().fcntl(fd, F_ADD_SEALS, seals), 'sealing', `memfd ${fd}`);
}
