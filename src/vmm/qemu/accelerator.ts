import { createHash } from 'node:crypto';
import { access, constants, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { withDeadline } from '../../base/abort.ts';
import { backoff } from '../../base/backoff.ts';
import { errnoOf, HrunError, isHrunError, messageOf } from '../../base/errors.ts';
import { newVmId } from '../../base/ids.ts';
import { jailSteps } from '../../base/jailSteps.ts';
import { parseStateText, writeStateFile } from '../../base/stateFile.ts';
import { hostBootId } from '../../sys/processes.ts';
import type { VmmDeps } from '../deps.ts';
import type { Accelerator, MicroVm } from '../microVm.ts';
import { whileRunning } from '../whileRunning.ts';
import { bootMicroVm } from './boot.ts';
import { prepareEmulator } from './emulator.ts';
import { fileIdentity } from './findQemu.ts';

/** A guest of KVM is up in 0.1–0.3 s; one that is not in this time runs one instruction at a time. */
const probeLimitMs = 3000;
/** What the agent prints for `hrun.ready=console`. */
const readyLine = 'hrun-agent ready';

export interface ProbeDeps extends VmmDeps {
  readonly kernelPath: string;
  readonly initramfsPath: string;
  /** Where the answer is remembered. */
  readonly cachePath: string;
  /** Directory (0700) below which the test guest has its sockets for a moment. */
  readonly runDir: string;
}

const Verdict = z.object({ accelerator: z.enum(['kvm', 'tcg']), reason: z.string().optional() });
const CachedVerdict = z.object({ key: z.string(), verdict: Verdict });

export interface AcceleratorVerdict {
  readonly accelerator: Accelerator;
  /** Why it is not KVM, in one line. */
  readonly reason?: string | undefined;
}

/**
 * Finds out what guests run on here by running one: there are hosts whose /dev/kvm opens and yet boots no guest.
 * The answer is remembered for this boot of the host, this QEMU and this kernel.
 */
export async function probeAccelerator(deps: ProbeDeps, signal: AbortSignal): Promise<AcceleratorVerdict> {
  const key = await cacheKey(deps);
  const cached = await readCache(deps.cachePath);
  if (cached?.key === key) return cached.verdict;
  const verdict = await runProbe(deps, signal);
  if (verdict.accelerator === 'tcg')
    deps.log.warn({ reason: verdict.reason }, 'guests run on TCG, without KVM');
  await mkdir(dirname(deps.cachePath), { recursive: true, mode: 0o700 });
  await writeStateFile(deps.cachePath, { key, verdict }, { durable: false });
  return verdict;
}

/** @throws HrunError KVM_UNAVAILABLE when KVM is demanded and does not work here */
export async function chooseAccelerator(
  wanted: 'auto' | Accelerator,
  deps: ProbeDeps,
  signal: AbortSignal,
): Promise<Accelerator> {
  if (wanted === 'tcg') return 'tcg';
  const { accelerator, reason } = await probeAccelerator(deps, signal);
  if (wanted === 'auto' || accelerator === 'kvm') return accelerator;
  throw new HrunError(
    'KVM_UNAVAILABLE',
    `KVM does not work on this host: ${reason ?? 'the test guest failed'}`,
    {
      hint: 'run without --accel kvm to use software emulation',
    },
  );
}

async function runProbe(deps: ProbeDeps, signal: AbortSignal): Promise<AcceleratorVerdict> {
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch (error) {
    return { accelerator: 'tcg', reason: missingKvm(error) };
  }
  await prepareEmulator(deps, signal);
  try {
    await withDeadline('booting a guest under KVM', probeLimitMs, signal, (inner) => bootProbe(deps, inner));
    return { accelerator: 'kvm' };
  } catch (error) {
    signal.throwIfAborted();
    // without an emulator there is nothing to learn about KVM
    if (isHrunError(error, 'QEMU_MISSING')) throw error;
    return { accelerator: 'tcg', reason: `/dev/kvm is there, but ${shortReason(error)}` };
  }
}

function missingKvm(error: unknown): string {
  if (errnoOf(error) === 'EACCES') return '/dev/kvm may not be opened by this user (is it in the group kvm?)';
  return 'there is no /dev/kvm';
}

function shortReason(error: unknown): string {
  if (isHrunError(error, 'TIMEOUT')) return `no guest booted in ${probeLimitMs / 1000} s`;
  return `the test guest failed: ${messageOf(error).replace(/^microVM [0-9a-f]+ /, '')}`;
}

async function bootProbe(deps: ProbeDeps, signal: AbortSignal): Promise<void> {
  const runDir = await mkdtemp(join(deps.runDir, 'probe-'));
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(runDir, { recursive: true, force: true }));
  const vm = undo.use(
    await bootMicroVm(
      {
        id: newVmId(),
        runDir,
        shape: {
          kernelPath: deps.kernelPath,
          initramfsPath: deps.initramfsPath,
          accelerator: 'kvm',
          vcpus: 1,
          memoryMiB: 128,
          transport: 'serial',
          kernelParameters: ['hrun.ready=console'],
        },
      },
      // nothing of anybody is in this guest: whether KVM works does not depend on what it is locked in with
      { ...deps, jail: { ...deps.jail, allowed: jailSteps }, log: { debug: () => {}, warn: () => {} } },
      signal,
    ),
  );
  await whileRunning(vm, 'booting', signal, (inner) => untilReady(vm, inner));
}

async function untilReady(vm: MicroVm, signal: AbortSignal): Promise<void> {
  const pauses = backoff(5, 50);
  while (!(await vm.consoleTail(signal)).includes(readyLine)) await pauses.pause(signal);
}

async function cacheKey(deps: ProbeDeps): Promise<string> {
  const parts = await Promise.all([
    hostBootId(),
    fileIdentity(deps.qemuPath),
    guestFileIdentity(deps.kernelPath),
    guestFileIdentity(deps.initramfsPath),
  ]);
  return createHash('sha256').update(parts.join('\n')).digest('hex');
}

async function guestFileIdentity(path: string): Promise<string> {
  return fileIdentity(path).catch((cause: unknown) => {
    throw new HrunError('NOT_FOUND', `${path} is missing`, { cause, hint: 'run "make build"' });
  });
}

async function readCache(path: string): Promise<z.infer<typeof CachedVerdict> | undefined> {
  try {
    return CachedVerdict.safeParse(parseStateText(await readFile(path, 'utf8'))).data;
  } catch {
    return undefined;
  }
}
