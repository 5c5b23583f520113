import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import {
  type AddressInfo,
  connect,
  createServer as createTcpServer,
  type Server,
  type Socket,
} from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface TestRegistry extends AsyncDisposable {
  /** `127.0.0.1:PORT` */
  readonly address: string;
  readonly port: number;
}

/** Debian's docker-registry on a free port of loopback, with or without a password. */
export async function startRegistry(
  options: { readonly user?: string; readonly password?: string } = {},
): Promise<TestRegistry> {
  await using undo = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'hrun-registry-'));
  undo.defer(() => rm(directory, { recursive: true, force: true }));
  let auth = {};
  if (options.user !== undefined && options.password !== undefined) {
    const { stdout } = await run('htpasswd', ['-Bbn', options.user, options.password]);
    await writeFile(join(directory, 'htpasswd'), stdout);
    auth = { auth: { htpasswd: { realm: 'test', path: join(directory, 'htpasswd') } } };
  }
  const config = {
    version: '0.1',
    log: { level: 'info', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: join(directory, 'data') }, delete: { enabled: true } },
    http: { addr: '127.0.0.1:0' },
    ...auth,
  };
  // YAML is a superset of JSON.
  await writeFile(join(directory, 'config.yml'), JSON.stringify(config));
  const child = spawn('docker-registry', ['serve', join(directory, 'config.yml')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  undo.defer(() => end(child));
  const port = await listeningPort(child);
  const owned = undo.move();
  return { address: `127.0.0.1:${port}`, port, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

export interface TestServer extends TestRegistry {
  readonly server: Server;
}

/** A server on loopback, of plain HTTP unless it has a certificate, that answers as `listener` says. */
export async function startHttp(
  listener: RequestListener,
  tls?: { readonly key: Buffer; readonly cert: Buffer },
): Promise<TestServer> {
  const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
  return { server, ...(await listenOnLoopback(server, () => server.closeAllConnections())) };
}

interface BreakingProxy extends TestRegistry {
  /** Connections so far. */
  readonly connections: number;
}

/** Passes connections on to `port`, and breaks the n-th after `cutAfter(n)` bytes of answers (undefined: never). */
export async function startBreakingProxy(
  port: number,
  cutAfter: (connection: number) => number | undefined,
): Promise<BreakingProxy> {
  let connections = 0;
  const open = new Set<Socket>();
  const server = createTcpServer((near) => {
    const limit = cutAfter(connections++);
    const far = connect(port, '127.0.0.1');
    for (const socket of [near, far]) {
      open.add(socket);
      socket.once('close', () => open.delete(socket));
      socket.on('error', () => {});
    }
    near.pipe(far);
    let passed = 0;
    far.on('data', (chunk: Buffer) => {
      const rest = limit === undefined ? chunk.length : Math.max(0, limit - passed);
      near.write(chunk.subarray(0, rest));
      passed += chunk.length;
      if (limit !== undefined && passed > limit) {
        // What was written arrives, then the line is dead.
        near.end(() => near.resetAndDestroy());
        far.destroy();
      }
    });
    far.once('end', () => near.end());
    near.once('close', () => far.destroy());
  });
  const base = await listenOnLoopback(server, () => {
    for (const socket of open) socket.destroy();
  });
  return {
    ...base,
    get connections() {
      return connections;
    },
  };
}

async function listenOnLoopback(server: Server, cut: () => void): Promise<TestRegistry> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    address: `127.0.0.1:${port}`,
    port,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close');
      server.close();
      cut();
      await closed;
    },
  };
}

/** The log is read to its end: a registry that cannot write it dies of SIGPIPE. */
async function listeningPort(child: ChildProcess): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  let log = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    if (log.length < 65_536) log += chunk.toString();
    const port = /listening on \S*?:(\d+)/.exec(log)?.[1];
    if (port !== undefined) resolve(Number(port));
  });
  child.once('error', reject);
  child.once('exit', () => reject(new Error(`docker-registry ended: ${log}`)));
  return await promise;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
