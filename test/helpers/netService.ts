import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { ipBytes, parseIp } from '../../src/network/ipAddress.ts';
import { outgoingSocket } from '../../src/sys/inetSocket.ts';
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
