import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';
import type Koffi from 'koffi';

type NativeAddress = Uint8Array | null;

/** The C library calls that Node.js lacks, with their C signatures; each returns -1 on failure. */
export interface Libc {
  flock(fd: number, operation: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  close(fd: number): number;
  dup2(from: number, to: number): number;
  lseek(fd: number, offset: number, whence: number): number | bigint;
  socket(domain: number, type: number, protocol: number): number;
  socketpair(domain: number, type: number, protocol: number, fds: Int32Array): number;
  bind(fd: number, address: NativeAddress, length: number): number;
  listen(fd: number, backlog: number): number;
  memfd_create(name: string, flags: number): number;
  getsockopt(fd: number, level: number, name: number, value: NativeAddress, length: Uint32Array): number;
  setsockopt(fd: number, level: number, name: number, value: NativeAddress, length: number): number;
  send(fd: number, bytes: Uint8Array, length: number, flags: number): number | bigint;
  recv(fd: number, bytes: Uint8Array, length: number, flags: number): number | bigint;
  /** Sends bytes with ancillary data (cmsg(3)) on a connected socket. */
  sendmsg(fd: number, bytes: Uint8Array, control: Uint8Array, flags: number): number | bigint;
  getsockname(fd: number, address: Uint8Array, length: Uint32Array): number;
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  setns(fd: number, kind: number): number;
  unshare(flags: number): number;
  waitpid(pid: number, status: Int32Array, options: number): number;
  prlimit(
    pid: number,
    resource: number,
    wanted: BigUint64Array | null,
    before: BigUint64Array | null,
  ): number;
  syscall(number: number, a: number, b: number, c: number, d: number): number;
  /** Blocks on a pool thread; settles with 0 or the errno. */
  connect(fd: number, address: Uint8Array): Promise<number>;
  /** Makes code without arguments and relocations callable; undefined where the system forbids that. */
  machineCode(code: Uint8Array): (() => bigint) | undefined;
  errno(): number;
}

let loaded: Libc | undefined;

/** Loads koffi (8 MiB, 10 ms) at the first call: whoever needs no system call does not pay for it. */
export function libc(): Libc {
  loaded ??= load();
  return loaded;
}

function load(): Libc {
  const koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
  const self = koffi.load(null);
  const connect = self.func('int connect(int fd, void *address, uint32_t length)');
  return {
    flock: self.func('int flock(int fd, int operation)'),
    fcntl: self.func('int fcntl(int fd, int command, long argument)'),
    close: self.func('int close(int fd)'),
    dup2: self.func('int dup2(int from, int to)'),
    lseek: self.func('int64_t lseek(int fd, int64_t offset, int whence)'),
    socket: self.func('int socket(int domain, int type, int protocol)'),
    socketpair: self.func('int socketpair(int domain, int type, int protocol, int *fds)'),
    bind: self.func('int bind(int fd, void *address, uint32_t length)'),
    listen: self.func('int listen(int fd, int backlog)'),
    memfd_create: self.func('int memfd_create(const char *name, unsigned int flags)'),
    getsockopt: self.func('int getsockopt(int fd, int level, int name, void *value, uint32_t *length)'),
    setsockopt: self.func('int setsockopt(int fd, int level, int name, void *value, uint32_t length)'),
    send: self.func('int64_t send(int fd, void *bytes, size_t length, int flags)'),
    recv: self.func('int64_t recv(int fd, void *bytes, size_t length, int flags)'),
    sendmsg: loadSendmsg(koffi),
    getsockname: self.func('int getsockname(int fd, void *address, uint32_t *length)'),
    ioctl: self.func('int ioctl(int fd, unsigned long request, void *argument)'),
    unshare: self.func('int unshare(int flags)'),
    waitpid: self.func('int waitpid(int pid, int *status, int options)'),
    prlimit: self.func('int prlimit(int pid, int resource, void *wanted, void *before)'),
    setns: self.func('int setns(int fd, int kind)'),
    syscall: self.func('long syscall(long number, long a, long b, long c, long d)'),
    connect: (fd, address) =>
      new Promise((resolve, reject) => {
        connect.async(fd, address, address.length, (failure: unknown, result: number) => {
          // koffi keeps errno of the pool thread for the callback
          if (failure) reject(failure);
          else resolve(result === 0 ? 0 : koffi.errno());
        });
      }),
    machineCode: (code) => loadMachineCode(koffi, code),
    errno: () => koffi.errno(),
  };
}

/** struct iovec and struct msghdr of sendmsg(2). */
function loadSendmsg(koffi: typeof Koffi): Libc['sendmsg'] {
  const iovec = koffi.struct({ base: 'void *', length: 'size_t' });
  const msghdr = koffi.struct({
    name: 'void *',
    nameLength: 'uint32_t',
    parts: koffi.pointer(iovec),
    partCount: 'size_t',
    control: 'void *',
    controlLength: 'size_t',
    flags: 'int',
  });
  const sendmsg = koffi.load(null).func('sendmsg', 'int64_t', ['int', koffi.pointer(msghdr), 'int']);
  return (fd, bytes, control, flags) =>
    sendmsg(
      fd,
      {
        name: null,
        nameLength: 0,
        parts: { base: bytes, length: bytes.length },
        partCount: 1,
        control,
        controlLength: control.length,
        flags: 0,
      },
      flags,
    );
}

const pageBytes = 4096;
const PROT_READ_WRITE = 1 | 2;
const PROT_READ_EXEC = 1 | 4;
const MAP_PRIVATE_ANONYMOUS = 0x02 | 0x20;
const MAP_FAILED = 2n ** 64n - 1n;

/** One page that is never given back: callers keep what they get. */
function loadMachineCode(koffi: typeof Koffi, code: Uint8Array): (() => bigint) | undefined {
  const self = koffi.load(null);
  const mmap = self.func(
    'uint64_t mmap(void *at, size_t length, int protection, int flags, int fd, int64_t offset)',
  );
  const memcpy = self.func('void *memcpy(uint64_t to, void *from, size_t length)');
  const mprotect = self.func('int mprotect(uint64_t at, size_t length, int protection)');
  const page = BigInt(mmap(null, pageBytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0));
  if (page === MAP_FAILED) return undefined;
  memcpy(page, code, code.length);
  if (mprotect(page, pageBytes, PROT_READ_EXEC) !== 0) return undefined;
  const call = koffi.decode(page, koffi.proto('uint64_t ()'));
  return () => BigInt(call());
}

/** An error like those of node:fs: `code` is the errno's name. `subject` is the path or object of the call. */
export function systemError(call: string, subject: string, errno: number = libc().errno()): Error {
  const code = errno > 0 ? getSystemErrorName(-errno) : 'EUNKNOWN';
  return Object.assign(new Error(`${code}: ${call} ${subject}`), { code, errno, syscall: call });
}

/** Passes a successful result on. @throws the system error otherwise */
export function checked(result: number, call: string, subject: string): number {
  if (result < 0) throw systemError(call, subject);
  return result;
}
