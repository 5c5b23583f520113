import { readFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf } from '../base/errors.ts';
import { checked, libc, systemError } from './libc.ts';

// the same on x86_64 and aarch64
const SYS_pidfd_send_signal = 424;
const SYS_pidfd_open = 434;
const ESRCH = 3;
const WNOHANG = 1;
const RLIMIT_FSIZE = 1;

/** A process that cannot be mistaken for a later one with the same pid. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat. */
  readonly startTicks: string;
}

/** The identity of the live process `pid`; undefined when there is none or it is a zombie. */
export async function identifyProcess(pid: number): Promise<ProcessIdentity | undefined> {
  const stat = await readProcStat(pid);
  return stat === undefined || isDead(stat) ? undefined : { pid, startTicks: stat.startTicks };
}

/** Of a process that runs, or whose parent has not collected it yet. */
export async function startTicksOf(pid: number): Promise<string | undefined> {
  return (await readProcStat(pid))?.startTicks;
}

/** True while exactly this process runs; a zombie does not. */
export async function isAlive({ pid, startTicks }: ProcessIdentity): Promise<boolean> {
  return (await identifyProcess(pid))?.startTicks === startTicks;
}

/**
 * Sends `signalNumber` to exactly this process, through a pidfd so that a pid reused in between is not hit.
 * @returns false when it is gone
 */
export async function signalProcess(process: ProcessIdentity, signalNumber: number): Promise<boolean> {
  const { syscall, close, errno } = libc();
  const subject = `process ${process.pid}`;
  const pidfd = syscall(SYS_pidfd_open, process.pid, 0, 0, 0);
  if (pidfd < 0) {
    if (errno() === ESRCH) return false;
    throw systemError('pidfd_open', subject);
  }
  try {
    if (!(await isAlive(process))) return false;
    if (syscall(SYS_pidfd_send_signal, pidfd, signalNumber, 0, 0) === 0) return true;
    if (errno() === ESRCH) return false;
    throw systemError('pidfd_send_signal', subject);
  } finally {
    checked(close(pidfd), 'close', subject);
  }
}

/** Returns once the process is gone or a zombie: its descriptors are closed and its memory is free. */
export async function waitUntilGone(process: ProcessIdentity, signal: AbortSignal): Promise<void> {
  for (let pauseMs = 1; await isAlive(process); pauseMs = Math.min(pauseMs * 2, 10)) {
    await sleep(pauseMs, undefined, { signal });
  }
}

/** How a process ended; neither is known when somebody else has collected it. */
export interface ChildEnd {
  readonly code?: number | null;
  /** Such as "SIGKILL". */
  readonly signal?: string;
}

/**
 * Waits for the end of a child of this process that Node.js does not know of, and collects it. It is asked for in
 * growing pauses: meant for one that is just ending.
 */
export async function reapChild(pid: number): Promise<ChildEnd> {
  const status = Int32Array.of(0);
  for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, 1000)) {
    const reaped = libc().waitpid(pid, status, WNOHANG);
    if (reaped < 0) return {};
    if (reaped > 0) return endOf(status[0] ?? 0);
    await sleep(pauseMs);
  }
}

/** The wait status as wait(2) encodes it. */
function endOf(status: number): ChildEnd {
  const number = status & 0x7f;
  if (number === 0) return { code: (status >> 8) & 0xff };
  const known = Object.entries(constants.signals).find(([, value]) => value === number);
  return { signal: known?.[0] ?? `signal ${number}` };
}

/**
 * Lets a process write files as large as `bytes`, if it may not already.
 * @throws the system error: EPERM without CAP_SYS_RESOURCE
 */
export async function allowFileSize(pid: number, bytes: number): Promise<void> {
  // prlimit(2) would need the same right just to look
  const text = await readProcFile(`/proc/${pid}/limits`);
  const limit = /^Max file size +(\S+) /m.exec(text ?? '')?.[1];
  if (limit === 'unlimited' || Number(limit) >= bytes) return;
  const raised = BigUint64Array.of(BigInt(bytes), BigInt(bytes));
  checked(libc().prlimit(pid, RLIMIT_FSIZE, raised, null), 'prlimit', `process ${pid}`);
}

/** Children, their children and so on; of processes that fork meanwhile maybe not all. */
export async function descendantsOf(pid: number): Promise<number[]> {
  const text = await readProcFile(`/proc/${pid}/task/${pid}/children`);
  const children = (text ?? '').split(' ').filter(Boolean).map(Number);
  const below = await Promise.all(children.map(descendantsOf));
  return [...children, ...below.flat()];
}

/** Resident set of the process, bytes; undefined when it is gone. */
export async function residentBytes(pid: number): Promise<number | undefined> {
  const status = await readProcFile(`/proc/${pid}/status`);
  const kibibytes = status?.match(/^VmRSS:\s+(\d+) kB$/m)?.[1];
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
}

/** Memory that only this process has, bytes (smaps_rollup of proc(5)); undefined when it is gone. */
export async function privateBytes(pid: number): Promise<number | undefined> {
  const rollup = await readProcFile(`/proc/${pid}/smaps_rollup`);
  if (rollup === undefined) return undefined;
  const kibibytes = [...rollup.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+) kB$/gm)];
  return kibibytes.reduce((sum, [, value]) => sum + Number(value) * 1024, 0);
}

/** Identifies this boot of the host: a pid recorded under another one is nobody's. */
export async function hostBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

interface ProcStat {
  readonly state: string;
  readonly threads: number;
  readonly startTicks: string;
}

async function readProcStat(pid: number): Promise<ProcStat | undefined> {
  const text = await readProcFile(`/proc/${pid}/stat`);
  if (text === undefined) return undefined;
  // the command name in parentheses may hold anything, ")" and blanks too
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, threads, startTicks] = [fields[0], fields[17], fields[19]];
  if (state === undefined || startTicks === undefined) return undefined;
  return { state, threads: Number(threads), startTicks };
}

async function readProcFile(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}

/** A first thread that has ended is a zombie while the others still hold memory, locks and sockets. */
function isDead({ state, threads }: ProcStat): boolean {
  return (state === 'Z' && threads <= 1) || state === 'X' || state === 'x';
}
