import { type ChildProcess, spawn } from 'node:child_process';
import { errnoOf, HrunError } from '../../base/errors.ts';
import { printable } from '../../base/text.ts';
import { identifyProcess, type ProcessIdentity, signalProcess, waitUntilGone } from '../../sys/processes.ts';

const stderrBytes = 64 * 1024;
/** Said of every network device at start: its cable comes later. */
const unconnectedHub = /^.*warning: hub \d+ is not connected to host network$/gm;
/** Where the first of `descriptors` lands in QEMU. */
export const firstInheritedFd = 3;

export interface Emulator {
  readonly identity: ProcessIdentity;
  /** Settles with how it ended and what it said, in one line; never rejects. */
  readonly exited: Promise<string>;
}

/**
 * Starts QEMU in a session of its own, so that neither the end of this process nor its terminal's signals reach it.
 * Its stderr is kept here, bounded; once this process is gone QEMU writes into nothing.
 * @throws HrunError QEMU_MISSING, or QEMU_FAILED when it did not even start
 */
export async function startEmulator(
  qemuPath: string,
  arguments_: readonly string[],
  descriptors: readonly number[],
  environment: Readonly<Record<string, string>> = {},
): Promise<Emulator> {
  const child = spawn(qemuPath, arguments_, {
    cwd: '/',
    detached: true,
    env: environment,
    stdio: ['ignore', 'ignore', 'pipe', ...descriptors],
  });
  const exited = exitOf(child);
  const pid = await pidOf(child, qemuPath);
  const identity = await identifyProcess(pid);
  if (identity === undefined) throw new HrunError('QEMU_FAILED', await exited);
  return { identity, exited };
}

/** A missing QEMU with what to do about it. */
export function qemuMissing(qemuPath: string, cause?: unknown): HrunError {
  return new HrunError('QEMU_MISSING', `${qemuPath} is not installed`, {
    cause,
    hint: 'apt-get install qemu-system-x86, or name it in the configuration (qemuPath)',
  });
}

async function pidOf(child: ChildProcess, qemuPath: string): Promise<number> {
  if (child.pid !== undefined) return child.pid;
  const { promise, resolve } = Promise.withResolvers<unknown>();
  child.once('error', resolve);
  const cause = await promise;
  if (errnoOf(cause) === 'ENOENT') throw qemuMissing(qemuPath, cause);
  throw new HrunError('QEMU_FAILED', `${qemuPath} could not be started`, { cause });
}

function exitOf(child: ChildProcess): Promise<string> {
  const said: Buffer[] = [];
  let saidBytes = 0;
  child.stderr?.on('data', (bytes: Buffer) => {
    const kept = bytes.subarray(0, stderrBytes - saidBytes);
    if (kept.length > 0) said.push(kept);
    saidBytes += kept.length;
  });
  const { promise, resolve } = Promise.withResolvers<string>();
  child.once('close', (code, signalName) => {
    const how = signalName === null ? `ended with code ${code}` : `was ended by ${signalName}`;
    const why = Buffer.concat(said)
      .toString('utf8')
      .replaceAll(unconnectedHub, '')
      .trim()
      .replaceAll(/\s*\n\s*/g, '; ');
    resolve(why === '' ? `QEMU ${how}` : `QEMU ${how}: ${printable(why, 2000)}`);
  });
  return promise;
}

const SIGKILL = 9;
const killLimitMs = 10_000;

/** Kills exactly this QEMU and returns when it is gone, with its memory, locks and sockets. */
export async function killEmulator(identity: ProcessIdentity): Promise<void> {
  if (!(await signalProcess(identity, SIGKILL))) return;
  await waitUntilGone(identity, AbortSignal.timeout(killLimitMs)).catch((cause: unknown) => {
    throw new HrunError('QEMU_FAILED', `QEMU (pid ${identity.pid}) did not die of SIGKILL`, { cause });
  });
}
