import { once } from 'node:events';
import { Socket } from 'node:net';

/** A connected socket; closed again when `signal` fires before that. */
export async function connectUnix(path: string, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted();
  const socket = new Socket({ allowHalfOpen: false });
  try {
    socket.connect(path);
    await once(socket, 'connect', { signal });
    return socket;
  } catch (cause) {
    socket.destroy();
    throw cause;
  }
}
