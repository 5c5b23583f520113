import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { decode, encode } from 'dns-packet';
import { ipBytes, parseIp } from '../../src/network/ipAddress.ts';
import { bindSocket, outgoingSocket } from '../../src/sys/inetSocket.ts';
import type { NetNamespace } from '../../src/sys/netNamespace.ts';

/** A TCP server of the test's own, inside a network namespace; it stops on dispose. */
export async function serveIn(
  netns: NetNamespace,
  port: number,
  answer: (socket: Socket) => void,
): Promise<AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => void sockets.delete(socket));
    answer(socket);
  });
  // without a host this binds before it returns
  netns.run(() => server.listen(port));
  if (!server.listening) await once(server, 'listening');
  return {
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** All that a server says to who connects to it from a network namespace. @throws when it cannot be reached */
export async function readFrom(netns: NetNamespace, address: string, port: number): Promise<string> {
  const to = { address: ipBytes(parseIp(address, 'the server')), port };
  const socket = await netns.run(() => outgoingSocket(to, 9000, address)).connect();
  return await text(socket);
}

/** A name server on port 53 of an address of a network namespace, that knows these names only; counts its queries. */
export async function nameServerIn(
  netns: NetNamespace,
  address: string,
  names: Readonly<Record<string, string>>,
): Promise<AsyncDisposable & { readonly asked: string[] }> {
  const at = { address: ipBytes(parseIp(address, 'the server')), port: 53 };
  const bound = netns.run(() => bindSocket('dgram', at, address));
  const socket = createSocket('udp4');
  const asked: string[] = [];
  socket.on('message', (bytes, { address: from, port }) => {
    const { id, questions = [] } = decode(bytes);
    const [question] = questions;
    if (question === undefined || id === undefined) return;
    asked.push(question.name);
    const known = question.type === 'A' ? names[question.name] : undefined;
    const answers =
      known === undefined ? [] : [{ type: 'A' as const, name: question.name, ttl: 30, data: known }];
    socket.send(encode({ type: 'response', id, questions, answers }), port, from);
  });
  socket.bind({ fd: bound.fd });
  return {
    asked,
    [Symbol.asyncDispose]: async () => {
      const closed = once(socket, 'close');
      socket.close();
      await closed;
    },
  };
}
