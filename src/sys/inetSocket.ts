import type { Socket } from 'node:net';
import { checked, libc, systemError } from './libc.ts';
import { adoptStreamSocket } from './vsock.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_SNDTIMEO = 21;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const backlog = 64;

export interface InetAddress {
  /** 4 or 16 bytes in network byte order. */
  readonly address: Uint8Array;
  /** 0 when bound: any that is free. */
  readonly port: number;
}

export interface BoundSocket extends Disposable {
  readonly fd: number;
  readonly port: number;
}

/**
 * A socket bound in the network namespace of this thread (see NetNamespace.run), without waiting; one of `stream`
 * listens already. Of IPv6 it takes IPv6 only.
 * @param subject names it in errors
 * @throws the system error: EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT
 */
export function bindSocket(kind: 'stream' | 'dgram', at: InetAddress, subject: string): BoundSocket {
  const { socket, setsockopt, bind, listen, getsockname, close } = libc();
  const family = at.address.length === 4 ? AF_INET : AF_INET6;
  const type = (kind === 'stream' ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
  const fd = checked(socket(family, type, 0), 'socket', subject);
  try {
    const on = Buffer.from([1, 0, 0, 0]);
    if (kind === 'stream')
      checked(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, on, on.length), 'setsockopt', subject);
    if (family === AF_INET6) {
      checked(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, on, on.length), 'setsockopt', subject);
    }
    const sockaddr = inetSockaddr(at);
    checked(bind(fd, sockaddr, sockaddr.length), 'bind', subject);
    if (kind === 'stream') checked(listen(fd, backlog), 'listen', subject);
    checked(getsockname(fd, sockaddr, Uint32Array.of(sockaddr.length)), 'getsockname', subject);
    return { fd, port: sockaddr.readUInt16BE(2), [Symbol.dispose]: () => void close(fd) };
  } catch (cause) {
    close(fd);
    throw cause;
  }
}

/** struct sockaddr_in and sockaddr_in6. */
function inetSockaddr({ address, port }: InetAddress): Buffer {
  const isV4 = address.length === 4;
  const bytes = Buffer.alloc(isV4 ? 16 : 28);
  bytes.writeUInt16LE(isV4 ? AF_INET : AF_INET6, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(address, isV4 ? 4 : 8);
  return bytes;
}

/** A stream socket that is not connected yet, in the network namespace of this thread. */
export interface OutgoingSocket {
  /** May be called anywhere, once. Takes a thread of the pool meanwhile. */
  connect(): Promise<Socket>;
}

/**
 * @param limitMs how long connecting may take; then it is ETIMEDOUT or EINPROGRESS
 * @throws the system error
 */
export function outgoingSocket(to: InetAddress, limitMs: number, subject: string): OutgoingSocket {
  const { socket, setsockopt, connect, close } = libc();
  const family = to.address.length === 4 ? AF_INET : AF_INET6;
  const fd = checked(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), 'socket', subject);
  const timeval = Buffer.alloc(16);
  timeval.writeBigInt64LE(BigInt(Math.floor(limitMs / 1000)), 0);
  timeval.writeBigInt64LE(BigInt((limitMs % 1000) * 1000), 8);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, timeval, timeval.length);
  return {
    async connect() {
      const errno = await connect(fd, inetSockaddr(to));
      if (errno === 0) return adoptStreamSocket(fd);
      close(fd);
      throw systemError('connect', subject, errno);
    },
  };
}
