import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import type { Readable } from 'node:stream';
import { HrunError } from '../../base/errors.ts';
import { isJailStep, type JailStep } from '../../base/jailSteps.ts';
import { printable } from '../../base/text.ts';
import { type ChildEnd, type ProcessIdentity, reapChild, startTicksOf } from '../../sys/processes.ts';
import type { JailFacts, JailPolicy } from './policy.ts';

/** Where the first of `descriptors` lands in the program. */
export const firstInheritedFd = 3;
/** A user may be taken by another daemon's VM, or by somebody whom the configured range was not kept from. */
const uidAttempts = 16;
const stderrBytes = 64 * 1024;
const reportBytes = 64 * 1024;
const openFiles = 4096;
/** QEMU has a thread for each virtual CPU, up to 64 for its disks, and a few of its own. */
const threads = 512;
/** Of two that could go when the host's memory ends, the microVM goes before what others depend on (proc(5), oom_score_adj). */
const oomScore = 300;

export interface JailedCommand {
  /** The directory that becomes its root; undefined: the host's, where that was allowed. */
  readonly tree: string | undefined;
  readonly program: string;
  readonly arguments: readonly string[];
  /** What it inherits, from `firstInheritedFd` on. */
  readonly descriptors: readonly number[];
  readonly environment: Readonly<Record<string, string>>;
  /** Device nodes that it cannot do without. */
  readonly devices: readonly string[];
  /** Directories of the cgroups that it lives in. */
  readonly cgroups: readonly string[];
  /** The largest file that it may write. */
  readonly fileBytes: number;
}

export interface JailedProcess {
  readonly identity: ProcessIdentity;
  readonly jail: JailFacts;
  /** Steps that were impossible, with the reason. */
  readonly missing: readonly MissingStep[];
  /** Settles with how it ended and what it said on stderr, bounded; never rejects. */
  readonly exited: Promise<JailedEnd>;
}

export interface MissingStep {
  readonly step: JailStep;
  readonly why: string;
}

export interface JailedEnd extends ChildEnd {
  readonly said: string;
}

/**
 * Executes a program inside the jail. It lives in a session of its own: neither the end of this process nor its
 * terminal's signals reach it. Once this process is gone its stderr goes nowhere.
 * @throws HrunError JAIL_FAILED naming the step that is impossible here, QEMU_FAILED when it could not be executed
 */
export async function startJailed(command: JailedCommand, policy: JailPolicy): Promise<JailedProcess> {
  const asRoot = process.geteuid?.() === 0;
  for (let attempt = 1; ; attempt += 1) {
    const uid = asRoot ? policy.uids.first + randomInt(policy.uids.count) : undefined;
    const started = await attemptJailed(command, uid, policy);
    if (started !== 'busy') return started;
    if (attempt === uidAttempts) {
      const { first, count } = policy.uids;
      throw new HrunError(
        'JAIL_FAILED',
        `no user from ${first} to ${first + count - 1} is free for a microVM`,
        {
          hint: 'give jailUidFirst and jailUidCount a range that nobody else uses',
        },
      );
    }
  }
}

async function attemptJailed(
  command: JailedCommand,
  uid: number | undefined,
  policy: JailPolicy,
): Promise<JailedProcess | 'busy'> {
  const { program, descriptors } = command;
  const plan = {
    program,
    descriptors: descriptors.length,
    tree: command.tree ?? null,
    uid: uid ?? null,
    userNamespace: process.geteuid?.() !== 0,
    devices: command.devices,
    cgroups: command.cgroups,
    openFiles,
    processes: threads,
    fileBytes: command.fileBytes,
    oomScore,
    weaker: policy.allowed,
  };
  const child = spawn(launcherOf(policy), [JSON.stringify(plan), ...command.arguments], {
    argv0: 'hrun-jail',
    cwd: '/',
    detached: true,
    env: { ...command.environment },
    stdio: ['ignore', 'ignore', 'pipe', ...descriptors, 'pipe'],
  });
  const said = collect(child.stderr, stderrBytes);
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  await spawned(child);
  const report = parseReport(await collect(child.stdio[firstInheritedFd + descriptors.length], reportBytes));
  // also of one that has ended: nobody has collected it
  const startTicks = report.pid === undefined ? undefined : await startTicksOf(report.pid);
  const exited = closed.then(async () => ({
    ...(report.pid === undefined ? { code: child.exitCode } : await reapChild(report.pid)),
    said: await said,
  }));
  if (report.busy || report.failed !== undefined || report.pid === undefined || startTicks === undefined) {
    await exited;
    if (report.busy) return 'busy';
    throw jailFailure(report.failed, program);
  }
  const identity = { pid: report.pid, startTicks };
  const missing = report.missing;
  const own = uid === undefined || missing.some(({ step }) => step === 'uid') ? {} : { uid };
  return { identity, missing, exited, jail: { ...own, weaker: missing.map(({ step }) => step) } };
}

/** In one line. */
export function describeEnd({ code, signal, said }: JailedEnd): string {
  const how =
    signal !== undefined
      ? `was ended by ${signal}`
      : code === null || code === undefined
        ? 'is gone'
        : `ended with code ${code}`;
  const why = said.trim().replaceAll(/\s*\n\s*/g, '; ');
  return why === '' ? `QEMU ${how}` : `QEMU ${how}: ${printable(why, 2000)}`;
}

function launcherOf({ launcherPath }: JailPolicy): string {
  if (launcherPath !== undefined) return launcherPath;
  throw new HrunError('INTERNAL', 'the native binary of hrun, which QEMU is started through, was not found', {
    hint: 'run "make build"',
  });
}

async function spawned(child: ChildProcess): Promise<void> {
  if (child.pid !== undefined) return;
  const cause = await new Promise((resolve) => child.once('error', resolve));
  throw new HrunError('INTERNAL', 'the launcher of QEMU could not be started', { cause });
}

function jailFailure(failed: string | undefined, program: string): HrunError {
  const [step = '', ...rest] = (failed ?? '').split(' ');
  const why = printable(rest.join(' '), 500);
  if (!isJailStep(step))
    return new HrunError('QEMU_FAILED', `${program} could not be started: ${why || 'no reason is known'}`);
  return new HrunError('JAIL_FAILED', `QEMU cannot be locked in on this host, step "${step}": ${why}`, {
    hint: `hrun doctor shows every step; --allow-weaker-jail ${step}, or allowWeakerJail in the configuration, goes without`,
  });
}

interface Report {
  readonly pid: number | undefined;
  readonly busy: boolean;
  readonly failed: string | undefined;
  readonly missing: readonly MissingStep[];
}

/** Lines of the launcher (src/front, jail). Pure. */
export function parseReport(text: string): Report {
  const lines = text.split('\n').map((line) => /^(\w+) ?(.*)$/.exec(line) ?? []);
  const bodies = (word: string) => lines.filter((line) => line[1] === word).map((line) => line[2] ?? '');
  const [pid] = bodies('pid').map(Number);
  const missing = bodies('weaker').flatMap((body) => {
    const [step = '', ...why] = body.split(' ');
    return isJailStep(step) ? [{ step, why: printable(why.join(' '), 500) }] : [];
  });
  return {
    pid: pid !== undefined && Number.isSafeInteger(pid) && pid > 0 ? pid : undefined,
    busy: bodies('busy').length > 0,
    failed: bodies('failed')[0],
    missing,
  };
}

/** All that comes, of which the first `limitBytes` are kept. */
async function collect(stream: unknown, limitBytes: number): Promise<string> {
  const kept: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of stream as Readable) {
      const part = (chunk as Buffer).subarray(0, limitBytes - bytes);
      if (part.length > 0) kept.push(part);
      bytes += part.length;
    }
  } catch {
    // a pipe that breaks has ended
  }
  return Buffer.concat(kept).toString('utf8');
}
