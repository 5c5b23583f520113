import { createServer, type Server, type Socket } from 'node:net';
import { abortable } from '../base/abort.ts';
import { HrunError, isHrunError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Session } from '../cli/session.ts';
import type { AttachRecord } from '../runtime/attachRecord.ts';
import type { StreamOffsets } from '../runtime/engine.ts';
import { protocolError } from '../runtime/wire/frameBody.ts';
import { acceptedFrame, refusedFrame } from '../runtime/wire/frames.ts';
import { type PeerCredentials, peerCredentials } from '../sys/peerCredentials.ts';
import { FrontDoor, frontDoorGone } from './frontDoor.ts';
import { openSession, type Resumption, resumption } from './session.ts';
import { identifyFrontDoor, readSessionRecord } from './sessionRecords.ts';
import { type FrontFrame, frontFrameSplitter, parseFrontFrame } from './wire.ts';

/** How long a connection may stay without its first frame. */
const firstFrameMs = 10_000;
/** A command that fails here, not in its verb: hrun itself failed (Docker's convention). */
const brokenExitCode = 125;

export interface Commands {
  /** Runs one command to its exit code; never rejects for what a user did wrong. */
  run(session: Session): Promise<number>;
  /** Goes on with a command whose front door came back. */
  resume(session: Session, record: AttachRecord, received: StreamOffsets): Promise<number>;
}

export interface FrontDoorServerOptions {
  /** The descriptor that the keeper listens on, or a path to listen on (0600). */
  readonly listen: { readonly fd: number } | { readonly path: string };
  /** The only user that is served. */
  readonly uid: number;
  readonly sessionsDir: string;
  readonly log: Log;
  readonly commands: Commands;
  /** Called when a command has its answer, or nobody is there to take it. */
  readonly answered?: (session: Session) => void;
}

/** Serves front doors until disposed: then no new ones, and those at work learn that the daemon stops. */
export interface FrontDoorServer extends AsyncDisposable {
  /** Commands at work. */
  readonly activeCommands: number;
  /** Settles when no command is at work, or `signal` fires. */
  idle(signal: AbortSignal): Promise<void>;
  /** From now on who calls waits for the next daemon; commands at work go on. */
  stopAccepting(): void;
}

/** @throws the error of listen(2) */
export async function serveFrontDoors(options: FrontDoorServerOptions): Promise<FrontDoorServer> {
  const open = new Map<Socket, { readonly frontDoor?: FrontDoor }>();
  let activeCommands = 0;
  let lastDone = Promise.withResolvers<void>();
  const server = createServer({ allowHalfOpen: false }, (socket) => {
    open.set(socket, {});
    socket.on('close', () => open.delete(socket));
    activeCommands += 1;
    serve(socket, options, (frontDoor) => open.set(socket, { frontDoor }))
      .catch((error: unknown) => options.log.error({ error: messageOf(error) }, 'a connection failed'))
      .finally(() => {
        activeCommands -= 1;
        if (activeCommands === 0) lastDone.resolve();
        socket.end();
      });
  });
  await listen(server, options.listen);
  let closed: Promise<void> | undefined;
  const stopAccepting = () => {
    closed ??= new Promise<void>((resolve) => server.close(() => resolve()));
    return closed;
  };
  return {
    stopAccepting: () => void stopAccepting(),
    async idle(signal) {
      if (activeCommands === 0) return;
      lastDone = Promise.withResolvers();
      await abortable(lastDone.promise, signal).catch(() => {});
    },
    get activeCommands() {
      return activeCommands;
    },
    async [Symbol.asyncDispose]() {
      const done = stopAccepting();
      for (const [socket, { frontDoor }] of open) {
        frontDoor?.lose(new HrunError('CANCELLED', 'the daemon was stopped'));
        socket.destroy();
      }
      await done;
    },
  };
}

async function listen(server: Server, where: FrontDoorServerOptions['listen']): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen('path' in where ? { path: where.path, readableAll: false } : where, resolve);
  await promise;
}

async function serve(
  socket: Socket,
  options: FrontDoorServerOptions,
  opened: (frontDoor: FrontDoor) => void,
): Promise<void> {
  socket.on('error', () => {}); // 'close' follows
  const refuse = (message: string) => void socket.write(refusedFrame(`hrun: ${message}`));
  let peer: PeerCredentials;
  try {
    peer = peerCredentials(socket);
  } catch (error) {
    // Without an answer the front door would try again and again.
    refuse(`the daemon cannot tell who calls: ${messageOf(error)}`);
    throw error;
  }
  if (peer.uid !== options.uid) {
    options.log.warn({ peer }, 'refused another user');
    refuse(`this daemon serves uid ${options.uid} only, not uid ${peer.uid}`);
    return;
  }
  const connection = new Connection(socket);
  let first: FrontFrame;
  try {
    first = await connection.firstFrame();
  } catch (error) {
    if (isHrunError(error) && error.code !== 'CANCELLED') refuse(error.message);
    return;
  }
  if (first.type === 'hello') {
    const { rows, columns } = first.hello.header;
    const terminalSize = rows === 0 && columns === 0 ? undefined : { rows, columns };
    const frontDoor = connection.attach(new FrontDoor(socket, { terminalSize }));
    frontDoor.send(acceptedFrame(process.pid));
    opened(frontDoor);
    const identity = await identifyFrontDoor(peer.pid);
    const records = resumption(options.sessionsDir, frontDoor, identity);
    const session = openSession(frontDoor, first.hello, peer.pid, records);
    await finish(frontDoor, records, options, () => options.commands.run(session));
    options.answered?.(session);
  } else if (first.type === 'resume') {
    const received = { stdout: first.stdoutReceived, stderr: first.stderrReceived };
    const frontDoor = connection.attach(new FrontDoor(socket, { received }));
    frontDoor.send(acceptedFrame(process.pid));
    opened(frontDoor);
    const record = await readSessionRecord(options.sessionsDir, first.token);
    if (record === undefined) return refuse('the daemon does not know this command any more');
    const known = { token: first.token, record };
    const records = resumption(options.sessionsDir, frontDoor, record.frontDoor, known);
    const session = openSession(frontDoor, undefined, peer.pid, records);
    await finish(
      frontDoor,
      records,
      options,
      async () => record.exitCode ?? (await options.commands.resume(session, record.attach, received)),
    );
  } else {
    refuse(`a command starts with HELLO or RESUME, not with ${first.type}`);
  }
}

/** Runs the command and tells its exit code, for as long as the front door is there. */
async function finish(
  frontDoor: FrontDoor,
  records: Resumption,
  { log }: FrontDoorServerOptions,
  command: () => Promise<number>,
): Promise<void> {
  let code: number;
  try {
    code = await command();
  } catch (error) {
    if (!frontDoor.gone.aborted) {
      log.error(
        { error: messageOf(error), stack: error instanceof Error ? error.stack : '' },
        'a command broke',
      );
      frontDoor.stderr.writable.write(`hrun: ${messageOf(error)}\n`);
    }
    code = brokenExitCode;
  }
  try {
    frontDoor.gone.throwIfAborted();
    await records.settle(code);
    await frontDoor.exit(code);
    await records.forget();
  } catch (error) {
    if (!frontDoor.gone.aborted) throw error;
    await records.lost();
  }
}

/** Reads frames; the first is awaited, the others go to the front door. */
class Connection {
  readonly #socket: Socket;
  readonly #splitter = frontFrameSplitter();
  readonly #first = Promise.withResolvers<FrontFrame>();
  #sawFirst = false;
  #frontDoor: FrontDoor | undefined;
  #early: FrontFrame[] = [];

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk) => this.#receive(typeof chunk === 'string' ? Buffer.from(chunk) : chunk));
    socket.on('close', () => this.#lose(frontDoorGone()));
  }

  async firstFrame(): Promise<FrontFrame> {
    const deadline = AbortSignal.timeout(firstFrameMs);
    const late = () => this.#lose(protocolError('nothing within 10 s'));
    deadline.addEventListener('abort', late, { once: true });
    try {
      return await this.#first.promise;
    } finally {
      deadline.removeEventListener('abort', late);
    }
  }

  attach(frontDoor: FrontDoor): FrontDoor {
    this.#frontDoor = frontDoor;
    for (const frame of this.#early.splice(0)) frontDoor.receive(frame);
    return frontDoor;
  }

  #receive(chunk: Buffer): void {
    try {
      for (const { type, body } of this.#splitter.push(chunk)) {
        const frame = parseFrontFrame(type, body);
        if (!this.#sawFirst) {
          this.#sawFirst = true;
          this.#first.resolve(frame);
        } else if (this.#frontDoor === undefined) this.#early.push(frame);
        else this.#frontDoor.receive(frame);
      }
    } catch (error) {
      this.#lose(isHrunError(error) ? error : protocolError(messageOf(error)));
      if (this.#sawFirst) this.#socket.destroy();
    }
  }

  #lose(reason: HrunError): void {
    this.#first.reject(reason);
    this.#frontDoor?.lose(reason);
  }
}
