import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { HrunError } from '../base/errors.ts';
import type { CallerFiles, StandInRequest } from './callerFiles.ts';
import { StandIn } from './standIn.ts';

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
 * @throws HrunError HAND_FAILED naming the source, or INTERNAL without a share server
 */
export async function openShares(
  shares: StandInRequest['shares'],
  runDir: string,
  files: CallerFiles,
  serverPath: string | undefined,
  signal: AbortSignal,
): Promise<OpenShares | undefined> {
  if (shares.length === 0) return undefined;
  const { controlPath, socketPath } = sharePaths(runDir);
  const { pid } = await files.standIn(
    {
      controlPath,
      socketPath,
      shares,
      server: shareServerArguments(serverPath),
    },
    signal,
  );
  const standIn = await StandIn.dial(controlPath, signal);
  return { socketPath, pid, [Symbol.asyncDispose]: () => endStandIn(standIn, runDir) };
}

/** The stand-in that an earlier daemon had started. Undefined when it is gone. */
export async function adoptShares(
  runDir: string,
  pid: number,
  signal: AbortSignal,
): Promise<OpenShares | undefined> {
  const { controlPath, socketPath } = sharePaths(runDir);
  try {
    const standIn = await StandIn.dial(controlPath, signal);
    return { socketPath, pid, [Symbol.asyncDispose]: () => endStandIn(standIn, runDir) };
  } catch {
    return undefined;
  }
}

/** Ends a stand-in that belongs to nobody any more, of whatever container: whoever waits for it is told that it was killed. */
export async function endStrayStandIn(runDir: string, signal: AbortSignal): Promise<void> {
  const standIn = await StandIn.dial(sharePaths(runDir).controlPath, signal).catch(() => undefined);
  if (standIn !== undefined) await endStandIn(standIn, runDir, killedExitCode);
}

async function endStandIn(standIn: StandIn, runDir: string, code = 0): Promise<void> {
  using _connection = standIn;
  const limit = AbortSignal.timeout(endLimitMs);
  // A stand-in that is gone has taken its server with it.
  await standIn.exit(code, limit).catch(() => {});
  for (const path of Object.values(sharePaths(runDir))) await rm(path, { force: true });
}

function sharePaths(runDir: string): { controlPath: string; socketPath: string } {
  return { controlPath: join(runDir, 'stand-in.sock'), socketPath: join(runDir, 'share.sock') };
}

/** @throws HrunError INTERNAL when there is no share server */
export function shareServerArguments(serverPath: string | undefined): string[] {
  if (serverPath === undefined) {
    throw new HrunError(
      'INTERNAL',
      'directories of this machine are shared by virtiofsd, which is not installed',
      {
        hint: 'install qemu-system-common (Debian 12) or virtiofsd',
      },
    );
  }
  // Rust's virtiofsd has other flags than the one of QEMU 7.2.
  return serverPath.includes('/libexec/')
    ? [serverPath, '--fd={fd}', '--shared-dir={tree}', '--cache=auto', '--xattr']
    : [serverPath, '--fd={fd}', '-o', 'source={tree},cache=auto,xattr', '--rlimit-nofile=20000'];
}
