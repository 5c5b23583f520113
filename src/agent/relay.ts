import { once } from 'node:events';
import { chmod, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';

export interface Relay extends AsyncDisposable {
  /** What grpc-js is given. */
  readonly target: string;
  /** Settles when the stream was lost or the relay disposed; never rejects. */
  readonly closed: Promise<void>;
}

/**
 * Lets grpc-js, which can only connect to an address, use `stream`: a unix socket at `socketPath` (0600) that takes
 * one connection and joins it to the stream. Both end together.
 */
export async function openRelay(stream: Duplex, socketPath: string, signal: AbortSignal): Promise<Relay> {
  signal.throwIfAborted();
  await rm(socketPath, { force: true });
  const closed = Promise.withResolvers<void>();
  const server = createServer({ allowHalfOpen: true });
  let taken: Socket | undefined;
  server.on('connection', (socket) => {
    server.close();
    // one stream is one HTTP/2 connection: a client that lost it must not go on in the middle
    if (taken !== undefined) return void socket.destroy();
    taken = socket;
    socket.once('close', () => stream.destroy());
    void Promise.allSettled([pipeline(socket, stream), pipeline(stream, socket)]).then(() =>
      closed.resolve(),
    );
  });
  stream.once('close', () => {
    taken?.destroy();
    closed.resolve();
  });
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(socketPath, { force: true }));
  undo.defer(() => {
    taken?.destroy();
    stream.destroy();
    if (server.listening) server.close();
  });
  server.listen({ path: socketPath, backlog: 1 });
  await once(server, 'listening', { signal });
  await chmod(socketPath, 0o600);
  const owned = undo.move();
  return {
    target: `unix:${socketPath}`,
    closed: closed.promise,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
