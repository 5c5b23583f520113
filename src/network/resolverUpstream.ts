import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { abortable } from '../base/abort.ts';
import { bindSocket, outgoingSocket } from '../sys/inetSocket.ts';
import type { NetNamespace } from '../sys/netNamespace.ts';
import { ipBytes, parseIp } from './ipAddress.ts';

const dnsPort = 53;
/** Guests ask again, or elsewhere, after five seconds. */
const answerLimitMs = 2000;
const mostAnswerBytes = 65_535;

/**
 * Asks name servers of the host one after the other, from its namespace, and gives back the first answer as it came,
 * with the id of the query. Undefined when none answers.
 * @param kind over which transport, as the guest did
 */
export async function askUpstream(
  netns: NetNamespace,
  servers: readonly string[],
  query: Buffer,
  kind: 'udp' | 'tcp',
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  for (const server of servers) {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(answerLimitMs)]);
    try {
      const ask = kind === 'udp' ? askByDatagram : askByStream;
      return await ask(netns, server, query, limit);
    } catch {
      signal.throwIfAborted();
    }
  }
  return undefined;
}

/** From a port and with an id of its own each time, so that nobody else can answer by guessing. */
async function askByDatagram(
  netns: NetNamespace,
  server: string,
  query: Buffer,
  signal: AbortSignal,
): Promise<Buffer> {
  const address = parseIp(server, 'the name server');
  const from = { address: Buffer.alloc(address.family === 4 ? 4 : 16), port: 0 };
  const bound = netns.run(() => bindSocket('dgram', from, server));
  const socket = createSocket(address.family === 4 ? 'udp4' : 'udp6');
  const answer = Promise.withResolvers<Buffer>();
  answer.promise.catch(() => {});
  const ours = Buffer.from(query);
  ours.writeUInt16BE(randomInt(0x1_0000), 0);
  socket.on('error', (error) => answer.reject(error));
  socket.on('message', (message) => {
    if (isAnswerTo(message, ours)) answer.resolve(message);
  });
  try {
    socket.bind({ fd: bound.fd });
    // connected it takes answers of that server only, and hears when there is none
    socket.connect(dnsPort, server, () => socket.send(ours));
    const message = Buffer.from(await abortable(answer.promise, signal));
    query.copy(message, 0, 0, 2);
    return message;
  } finally {
    socket.close();
  }
}

async function askByStream(
  netns: NetNamespace,
  server: string,
  query: Buffer,
  signal: AbortSignal,
): Promise<Buffer> {
  const to = { address: ipBytes(parseIp(server, 'the name server')), port: dnsPort };
  const connecting = netns.run(() => outgoingSocket(to, answerLimitMs, server)).connect();
  const socket = await connecting;
  try {
    const answer = Promise.withResolvers<Buffer>();
    answer.promise.catch(() => {});
    let received = Buffer.alloc(0);
    socket.on('error', (error) => answer.reject(error));
    socket.on('close', () => answer.reject(new Error('closed')));
    socket.on('data', (bytes: Buffer) => {
      received = Buffer.concat([received, bytes]);
      const length = received.length < 2 ? mostAnswerBytes : received.readUInt16BE(0);
      if (received.length >= 2 + length) answer.resolve(received.subarray(2, 2 + length));
    });
    socket.write(lengthPrefixed(query));
    const message = await abortable(answer.promise, signal);
    if (!isAnswerTo(message, query)) throw new Error('not an answer');
    return message;
  } finally {
    socket.destroy();
  }
}

/** A message as it travels over a stream (RFC 1035, 4.2.2). */
export function lengthPrefixed(message: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

/** Same id, marked as a response. */
function isAnswerTo(message: Buffer, query: Buffer): boolean {
  if (message.length < 12 || message.length > mostAnswerBytes) return false;
  return message.readUInt16BE(0) === query.readUInt16BE(0) && (message.readUInt8(2) & 0x80) !== 0;
}
