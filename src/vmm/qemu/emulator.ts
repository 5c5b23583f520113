import { errnoOf, HrunError, messageOf } from '../../base/errors.ts';
import { type ProcessIdentity, signalProcess, waitUntilGone } from '../../sys/processes.ts';
import type { VmmDeps } from '../deps.ts';
import { describeEnd, type MissingStep, startJailed } from '../jail/launch.ts';
import type { JailFacts } from '../jail/policy.ts';
import { type JailTree, prepareTree } from '../jail/tree.ts';
import type { Accelerator } from '../microVm.ts';
import { findProgram } from './findQemu.ts';

/** Said of every network device at start: its cable comes later. */
const unconnectedHub = /^.*warning: hub \d+ is not connected to host network$/gm;

/** QEMU finds out there whether files can be locked; without an answer it locks no disk. */
const devices = ['/dev/null'];

export interface EmulatorRequest {
  readonly arguments: readonly string[];
  /** What it inherits, from `firstInheritedFd` on. */
  readonly descriptors: readonly number[];
  readonly accelerator: Accelerator;
  /** Load what lets a clone give memory back. */
  readonly preload: boolean;
  readonly cgroups: readonly string[];
  /** What is known to be impossible already. */
  readonly missing?: readonly MissingStep[];
  /** The largest file that it has to write, as far as that is known. */
  readonly fileBytes: number;
}

export interface Emulator {
  readonly identity: ProcessIdentity;
  readonly jail: JailFacts;
  /** Steps that were impossible and allowed to be, with the reasons. */
  readonly missing: readonly MissingStep[];
  /** Settles with how it ended and what it said, in one line; never rejects. */
  readonly exited: Promise<string>;
}

/**
 * Starts QEMU in its jail.
 * @throws HrunError QEMU_MISSING, JAIL_FAILED, DISK_FULL, or QEMU_FAILED when it did not even start
 */
export async function startEmulator(
  request: EmulatorRequest,
  { qemuPath, preloadPath, jail, log }: VmmDeps,
  signal: AbortSignal,
): Promise<Emulator> {
  await findProgram(qemuPath);
  const tree = await treeFor({ qemuPath, preloadPath, jail }, signal);
  signal.throwIfAborted();
  const jailed = 'root' in tree;
  const preload = jailed ? tree.preload : preloadPath;
  const { identity, missing, exited, ...started } = await startJailed(
    {
      tree: jailed ? tree.root : undefined,
      program: jailed ? tree.program : qemuPath,
      arguments: request.arguments,
      descriptors: request.descriptors,
      environment: request.preload && preload !== undefined ? { LD_PRELOAD: preload } : {},
      devices: request.accelerator === 'kvm' ? [...devices, '/dev/kvm'] : devices,
      cgroups: request.cgroups,
      fileBytes: Math.max(request.fileBytes, jail.fileBytes),
    },
    jail,
  );
  const all = [...(request.missing ?? []), ...(jailed ? [] : [tree]), ...missing];
  for (const { step, why } of all)
    log.warn({ step, pid: identity.pid }, `the jail of QEMU is weaker: ${why}`);
  return {
    identity,
    jail: { ...started.jail, weaker: all.map(({ step }) => step) },
    missing: all,
    exited: exited.then((end) => describeEnd({ ...end, said: end.said.replaceAll(unconnectedHub, '') })),
  };
}

/** Does what the first start would have to do once, for who must not take that time for QEMU's. */
export async function prepareEmulator(
  { qemuPath, preloadPath, jail }: VmmDeps,
  signal: AbortSignal,
): Promise<void> {
  // what is wrong, the start tells
  await prepareTree({ qemuPath, preloadPath, treesDir: jail.treesDir }, signal).catch(() => {});
}

/** @throws HrunError JAIL_FAILED unless it was allowed to go without, DISK_FULL */
async function treeFor(
  { qemuPath, preloadPath, jail }: Pick<VmmDeps, 'qemuPath' | 'preloadPath' | 'jail'>,
  signal: AbortSignal,
): Promise<JailTree | MissingStep> {
  try {
    return await prepareTree({ qemuPath, preloadPath, treesDir: jail.treesDir }, signal);
  } catch (cause) {
    signal.throwIfAborted();
    const why = `no file system could be made for QEMU: ${messageOf(cause)}`;
    if (jail.allowed.includes('root')) return { step: 'root', why };
    if (['ENOSPC', 'EDQUOT'].includes(errnoOf(cause) ?? '')) {
      throw new HrunError('DISK_FULL', `${jail.treesDir} is full: no room for the file system of QEMU`, {
        cause,
        hint: 'free some space (hrun image prune helps), or move hrun elsewhere with HRUN_ROOT',
      });
    }
    const hint = cause instanceof HrunError ? cause.hint : undefined;
    throw new HrunError('JAIL_FAILED', why, { cause, ...(hint !== undefined && { hint }) });
  }
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
