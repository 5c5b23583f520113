import { errnoOf, HrunError, messageOf } from '../base/errors.ts';
import { bindSocket } from '../sys/inetSocket.ts';
import type { NetNamespace } from '../sys/netNamespace.ts';
import type { PortWish } from './containerNetwork.ts';
import type { PublishedPort } from './endpoint.ts';
import { ipBytes, parseIp } from './ipAddress.ts';

/** A port to publish, before the host's side of it is known. */
/** A published port that nobody else on the host can take while it is held. */
export interface ReservedPort extends Disposable {
  readonly port: PublishedPort;
}

const attempts = 32;

/**
 * Takes a port of the host. The rules lead its traffic away before it gets to the sockets that hold it.
 * @throws HrunError PORT_IN_USE in Docker's words, INVALID_ARGUMENT for an address that the host does not have
 */
export function reservePort(netns: NetNamespace, request: PortWish): ReservedPort {
  const { hostPorts, ...rest } = request;
  if (hostPorts !== undefined) {
    for (let hostPort = hostPorts.first; ; hostPort++) {
      try {
        return hold(netns, { ...rest, hostPort });
      } catch (error) {
        if (hostPort >= hostPorts.last || !(error instanceof HrunError) || error.code !== 'PORT_IN_USE')
          throw error;
      }
    }
  }
  for (let attempt = 1; ; attempt++) {
    const hostPort = freePort(netns, request);
    try {
      return hold(netns, { ...rest, hostPort });
    } catch (error) {
      // free for one family only, or taken since
      if (attempt === attempts || !(error instanceof HrunError) || error.code !== 'PORT_IN_USE') throw error;
    }
  }
}

function hold(netns: NetNamespace, port: PublishedPort): ReservedPort {
  using undo = new DisposableStack();
  for (const address of addressesOf(port.hostIp)) {
    const held = bindPort(netns, port, address);
    if (held !== undefined) undo.use(held);
  }
  const owned = undo.move();
  return { port, [Symbol.dispose]: () => owned.dispose() };
}

function bindPort({ run }: NetNamespace, port: PublishedPort, address: string): Disposable | undefined {
  const shown = `${address.includes(':') ? `[${address}]` : address}:${port.hostPort}`;
  // what no socket can hold is only led on
  if (port.protocol === 'sctp') return undefined;
  const kind = port.protocol === 'tcp' ? 'stream' : 'dgram';
  try {
    const at = { address: ipBytes(parseIp(address, 'the address')), port: port.hostPort };
    return run(() => bindSocket(kind, at, shown));
  } catch (cause) {
    const errno = errnoOf(cause);
    if (errno === 'EADDRINUSE') {
      throw new HrunError('PORT_IN_USE', `Bind for ${shown} failed: port is already allocated`, {
        cause,
        hint: `something on this host has ${port.protocol} port ${port.hostPort} already`,
      });
    }
    if (errno === 'EADDRNOTAVAIL') {
      throw new HrunError('INVALID_ARGUMENT', `this host does not have the address ${address}`, { cause });
    }
    // a host without IPv6
    if (errno === 'EAFNOSUPPORT' && port.hostIp === '') return undefined;
    throw new HrunError('NETWORK_FAILED', `cannot publish ${shown}: ${messageOf(cause)}`, { cause });
  }
}

function freePort({ run }: NetNamespace, { hostIp, protocol }: PortWish): number {
  const [address = ''] = addressesOf(hostIp);
  const kind = protocol === 'udp' ? 'dgram' : 'stream';
  const at = { address: ipBytes(parseIp(address, 'the address')), port: 0 };
  using socket = run(() => bindSocket(kind, at, address));
  return socket.port;
}

function addressesOf(hostIp: string): readonly string[] {
  return hostIp === '' ? ['0.0.0.0', '::'] : [hostIp];
}
