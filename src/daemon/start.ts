import { unlink } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { writeFileAtomically } from '../base/atomicFile.ts';
import { type Config, readConfig } from '../base/config.ts';
import { HrunError, messageOf } from '../base/errors.ts';
import { type Log, stderrLog } from '../base/log.ts';
import { createDirectories, findDist, type Paths } from '../base/paths.ts';
import type { CliDeps } from '../cli/deps.ts';
import { resumeCommand, runCommand } from '../cli/main.ts';
import type { Session } from '../cli/session.ts';
import type { Engine } from '../runtime/engine.ts';
import { tryLockFile } from '../sys/fileLock.ts';
import { onceItWorks } from './onceItWorks.ts';
import { type FrontDoorServer, serveFrontDoors } from './server.ts';
import { awaitedContainers, sweepSessionRecords } from './sessionRecords.ts';
import { version } from './version.ts';

/** For commands that are at work when the daemon is to end. */
const lastAnswersMs = 1000;

export interface DaemonOptions {
  readonly paths: Paths;
  /** Where the daemon's code lies; the guest's files are found from here. */
  readonly codeDir: string;
  readonly listen: { readonly fd: number } | { readonly path: string };
  /** A pipe that ends when the keeper is gone. */
  readonly lifeline?: number;
  readonly searchPath: string;
  /** Instead of the engine of the rooms; for tests. */
  readonly openEngine?: () => Promise<Engine>;
  /** Instead of JSON lines on stderr. */
  readonly log?: Log;
}

/**
 * Serves front doors until asked to stop: by `hrun daemon stop`, or when `signal` fires; then it settles. It rejects
 * when the keeper is gone, since nobody would start it again.
 */
export async function runDaemon(options: DaemonOptions, signal: AbortSignal): Promise<void> {
  const { paths } = options;
  const stopping = Promise.withResolvers<void>();
  signal.addEventListener('abort', () => stopping.resolve(), { once: true });
  await createDirectories(paths);
  await using stack = new AsyncDisposableStack();
  const config = onceItWorks(() => readConfig(paths.configFile));
  // Log at the default level until the configuration can be read: a broken one is told to who calls.
  const log = options.log ?? stderrLog(await config().then(logLevelOf, () => 'info' as const));
  const shutdown = new AbortController();
  stack.defer(() => shutdown.abort());
  const rootLock = onceItWorks(async () => stack.use(await lockRoot(paths)));
  const engine = onceItWorks(async () => {
    await rootLock();
    opened = await (options.openEngine?.() ?? openEngine(options, config, log, shutdown.signal));
    return opened;
  });
  let opened: Engine | undefined;
  // after the server: nobody is served by a daemon that takes its engine apart
  stack.defer(() => opened?.close());
  const startedAtMs = Date.now();
  let server: FrontDoorServer | undefined;
  let stopAfter: Session | undefined;
  const deps: CliDeps = {
    paths,
    config,
    engine,
    now: () => Date.now(),
    daemon: {
      version,
      pid: process.pid,
      uid: process.getuid?.() ?? 0,
      startedAtMs,
      get activeCommands() {
        return server?.activeCommands ?? 0;
      },
      stop: (asking) => {
        stopAfter = asking;
        server?.stopAccepting();
      },
    },
  };
  server = stack.use(
    await serveFrontDoors({
      listen: options.listen,
      uid: process.getuid?.() ?? 0,
      sessionsDir: paths.sessions,
      log,
      answered: (session) => {
        if (session === stopAfter) stopping.resolve();
      },
      commands: {
        run: (session) => runCommand(session, deps),
        resume: (session, record, received) => resumeCommand(session, deps, record, received),
      },
    }),
  );
  const facts = { pid: process.pid, version, startedAt: new Date(startedAtMs).toISOString() };
  await writeFileAtomically(paths.daemonFacts, `${JSON.stringify(facts)}\n`, { durable: false });
  stack.defer(() => unlink(paths.daemonFacts).catch(() => {}));
  log.info({ version, root: paths.root, run: paths.run }, 'serving');
  // Containers of an earlier daemon are taken over now, not at the first command.
  engine().catch((error: unknown) => log.error({ error: messageOf(error) }, 'the engine did not start'));
  try {
    await Promise.race([stopping.promise, keeperGone(options.lifeline)]);
  } finally {
    log.info({}, 'stopping');
    // who called just before is still answered, if that does not take long
    server.stopAccepting();
    await server.idle(AbortSignal.timeout(lastAnswersMs));
  }
}

/** Two daemons would take each other's containers for leftovers. @throws HrunError INVALID_CONFIG */
async function lockRoot({ root }: Paths): Promise<AsyncDisposable> {
  const lock = await tryLockFile(join(root, 'daemon.lock'));
  if (lock === undefined) {
    throw new HrunError('INVALID_CONFIG', `${root} is in use by another daemon`, {
      hint: 'give each HRUN_RUN an HRUN_ROOT of its own',
    });
  }
  return lock;
}

async function openEngine(
  { paths, codeDir, searchPath }: DaemonOptions,
  config: () => Promise<Config>,
  log: Log,
  signal: AbortSignal,
): Promise<Engine> {
  const { createEngine } = await import('../runtime/createEngine.ts');
  await sweepSessionRecords(paths.sessions);
  const awaited = await awaitedContainers(paths.sessions);
  const dist = await findDist(codeDir);
  return createEngine({ config: await config(), paths, dist, log, searchPath, awaited }, signal);
}

function logLevelOf({ logLevel }: Config): Config['logLevel'] {
  return logLevel;
}

/** Rejects when the keeper's end of the pipe is closed; never settles without a pipe. */
function keeperGone(lifeline: number | undefined): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  if (lifeline !== undefined) {
    const pipe = new Socket({ fd: lifeline, readable: true, writable: false });
    pipe.on('close', () => reject(new Error('the keeper is gone')));
    pipe.on('error', () => {});
    pipe.resume();
  }
  return promise;
}
