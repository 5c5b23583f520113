import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { createServer, type Server, type Socket } from 'node:net';
import { messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { bindSocket } from '../sys/inetSocket.ts';
import type { NetNamespace } from '../sys/netNamespace.ts';
import type { Endpoint } from './endpoint.ts';
import { ipBytes, parsePrefix } from './ipAddress.ts';
import type { NetworkDefinition } from './networkDefinition.ts';
import { addressesIn, decideQuery, failedAnswer, opensWay } from './resolverAnswers.ts';
import { askUpstream, lengthPrefixed } from './resolverUpstream.ts';

/** Questions of all guests of a network that wait for an answer from elsewhere; one beyond is not answered. */
const mostWaiting = 256;
const mostConnections = 64;
const connectionIdleMs = 10_000;
/** An answer to a datagram that is larger must be asked for over a stream. */
const minimumQueryBytes = 12;

export interface ResolverOptions {
  readonly network: NetworkDefinition;
  /** Those of the network, as they are now. */
  endpoints(): readonly Endpoint[];
  /** Those whose names a guest may know: of all its networks. */
  seenBy(asker: Endpoint): readonly Endpoint[];
  /** Awaited before a guest learns of addresses that it may then talk to. */
  named(asker: Endpoint, found: ReturnType<typeof addressesIn>): Promise<void>;
  readonly log: Pick<Log, 'debug' | 'warn'>;
}

/** The name server of one network, on its gateway: it knows the guests there and asks the host's servers for the rest. */
export class Resolver implements Disposable {
  readonly udpPort: number;
  readonly tcpPort: number;
  readonly #netns: NetNamespace;
  readonly #options: ResolverOptions;
  readonly #datagrams: DatagramSocket;
  readonly #server: Server;
  readonly #connections = new Set<Socket>();
  readonly #stop = new AbortController();
  #waiting = 0;

  private constructor(netns: NetNamespace, options: ResolverOptions, undo: DisposableStack) {
    this.#netns = netns;
    this.#options = options;
    const gateway = parsePrefix(options.network.gateway4, 'the gateway');
    const at = { address: ipBytes(gateway.base), port: 0 };
    const bind = (kind: 'stream' | 'dgram') =>
      netns.run(() => bindSocket(kind, at, `the name server of ${options.network.name}`));
    const datagrams = undo.use(bind('dgram'));
    const stream = undo.use(bind('stream'));
    this.udpPort = datagrams.port;
    this.tcpPort = stream.port;
    this.#datagrams = createSocket('udp4');
    this.#datagrams.on('error', (error) => this.#complain(error));
    this.#datagrams.on(
      'message',
      (query, { address, port }) => void this.#answerDatagram(query, address, port),
    );
    this.#datagrams.bind({ fd: datagrams.fd });
    this.#server = createServer((socket) => this.#serve(socket));
    this.#server.maxConnections = mostConnections;
    this.#server.on('error', (error) => this.#complain(error));
    this.#server.listen({ fd: stream.fd });
  }

  /** @throws the system error when the gateway's address is not there */
  static open(netns: NetNamespace, options: ResolverOptions): Resolver {
    using undo = new DisposableStack();
    const resolver = new Resolver(netns, options, undo);
    undo.move(); // the sockets are node's now
    return resolver;
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
    this.#datagrams.close();
    this.#server.close();
    for (const socket of this.#connections) socket.destroy();
  }

  async #answerDatagram(query: Buffer, from: string, port: number): Promise<void> {
    const answer = await this.#answer(query, from, 'udp');
    if (answer === undefined || this.#stop.signal.aborted) return;
    this.#datagrams.send(answer, port, from, (error) => {
      if (error) this.#complain(error);
    });
  }

  #serve(socket: Socket): void {
    const from = socket.remoteAddress ?? '';
    let received = Buffer.alloc(0);
    this.#connections.add(socket);
    socket.setTimeout(connectionIdleMs, () => socket.destroy());
    socket.on('close', () => void this.#connections.delete(socket));
    socket.on('error', () => {});
    socket.on('data', (bytes: Buffer) => {
      received = Buffer.concat([received, bytes]);
      const length = received.length < 2 ? Number.POSITIVE_INFINITY : received.readUInt16BE(0);
      if (received.length < 2 + length) return;
      // one question at a time: the next is read when this one is answered
      socket.pause();
      const query = received.subarray(2, 2 + length);
      const rest = received.subarray(2 + length);
      received = Buffer.alloc(0);
      void this.#answer(query, from, 'tcp').then((answer) => {
        if (answer === undefined) return void socket.destroy();
        socket.write(lengthPrefixed(answer));
        socket.resume();
        if (rest.length > 0) socket.unshift(rest);
      });
    });
  }

  /** Never rejects; undefined: not to be answered. */
  async #answer(query: Buffer, from: string, kind: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    if (query.length < minimumQueryBytes) return undefined;
    const { network } = this.#options;
    const endpoints = this.#options.endpoints();
    const asker = endpoints.find(({ ipv4, ipv6 }) => ipv4 === from || ipv6 === from);
    const seen = asker === undefined ? [] : this.#options.seenBy(asker);
    const decision = decideQuery(query, asker, seen, network);
    if (decision.kind === 'answer') return decision.message;
    if (decision.kind === 'drop' || asker === undefined || this.#waiting >= mostWaiting) return undefined;
    this.#waiting += 1;
    try {
      const answer = await askUpstream(this.#netns, asker.upstream, query, kind, this.#stop.signal);
      if (answer === undefined) return failedAnswer(query);
      if (opensWay(asker, decision.question.name)) await this.#options.named(asker, addressesIn(answer));
      return answer;
    } catch (error) {
      this.#complain(error);
      return undefined;
    } finally {
      this.#waiting -= 1;
    }
  }

  #complain(error: unknown): void {
    if (this.#stop.signal.aborted) return;
    this.#options.log.debug({ network: this.#options.network.name, error: messageOf(error) }, 'name server');
  }
}
