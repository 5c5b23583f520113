import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { exists } from '../base/exists.ts';
import type { ShareHost } from '../pool/shareHost.ts';
import type { CallerFiles, StandInRequest } from './callerFiles.ts';
import { shareServerArguments } from './shareServer.ts';
import { StandIn } from './standIn.ts';
import { StandInHost } from './standInHost.ts';

const endLimitMs = 10_000;
const killedExitCode = 137;

/** The caller's directories of one container, served to its guest by a stand-in in the caller's namespaces. */
export interface OpenShares extends AsyncDisposable {
  /** Where QEMU finds the share server (vhost-user). */
  readonly socketPath: string;
  readonly pid: number;
}

/**
 * Starts the stand-in for what a container has of the host's directories and files.
 * @param host serves them, if there is one already; otherwise the stand-in has a server of its own
 * @throws HrunError HAND_FAILED naming the source, or INTERNAL without a share server
 */
export async function openShares(
  shares: StandInRequest['shares'],
  runDir: string,
  files: CallerFiles,
  serverPath: string | undefined,
  host: ShareHost | undefined,
  signal: AbortSignal,
): Promise<OpenShares | undefined> {
  if (shares.length === 0) return undefined;
  const paths = pathsIn(runDir);
  const controlPath = host === undefined ? paths.control : paths.lent;
  const { pid } = await files.standIn(
    {
      controlPath,
      shares,
      ...(host === undefined
        ? { socketPath: paths.share, server: shareServerArguments(serverPath) }
        : { servedBy: host.process.pid }),
    },
    signal,
  );
  const standIn = await StandIn.dial(controlPath, signal);
  return {
    socketPath: host?.socketPath ?? paths.share,
    pid,
    [Symbol.asyncDispose]: () =>
      endShares(standIn, host, host === undefined ? [paths.control, paths.share] : [paths.lent]),
  };
}

/** The stand-in that an earlier daemon had started, with the server that it is served by. Undefined when it is gone. */
export async function adoptShares(
  runDir: string,
  pid: number,
  signal: AbortSignal,
): Promise<OpenShares | undefined> {
  const paths = pathsIn(runDir);
  try {
    const isLent = await exists(paths.lent);
    // One whose server is gone has to end as well.
    const host = isLent ? await StandInHost.adopt(runDir, signal).catch(() => undefined) : undefined;
    const standIn = await StandIn.dial(isLent ? paths.lent : paths.control, signal);
    return {
      socketPath: paths.share,
      pid,
      async [Symbol.asyncDispose]() {
        await endShares(standIn, host, isLent ? [paths.lent] : [paths.control, paths.share]);
        await host?.[Symbol.asyncDispose]();
      },
    };
  } catch {
    return undefined;
  }
}

/** Ends a stand-in that belongs to nobody any more, of whatever container: whoever waits for it is told that it was killed. */
export async function endStrayStandIn(runDir: string, signal: AbortSignal): Promise<void> {
  const { control, lent } = pathsIn(runDir);
  // One that serves others ends before them, so that nothing has the files open that they take away.
  for (const path of [control, lent]) {
    const standIn = await StandIn.dial(path, signal).catch(() => undefined);
    if (standIn !== undefined) await endShares(standIn, undefined, [path], killedExitCode);
  }
}

async function endShares(
  standIn: StandIn,
  host: ShareHost | undefined,
  files: readonly string[],
  code = 0,
): Promise<void> {
  using _connection = standIn;
  const limit = AbortSignal.timeout(endLimitMs);
  // It has the files open that are about to be taken away.
  await host?.closeShares(limit).catch(() => {});
  // A stand-in that is gone has taken its server with it.
  await standIn.exit(code, limit).catch(() => {});
  for (const path of files) await rm(path, { force: true });
}

function pathsIn(runDir: string): {
  readonly control: string;
  readonly share: string;
  readonly lent: string;
} {
  return {
    control: join(runDir, 'stand-in.sock'),
    share: join(runDir, 'share.sock'),
    lent: join(runDir, 'lent.sock'),
  };
}
