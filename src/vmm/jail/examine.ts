import { newVmId } from '../../base/ids.ts';
import { type JailStep, jailSteps } from '../../base/jailSteps.ts';
import type { VmmDeps } from '../deps.ts';
import { qemuSandbox } from '../qemu/commandLine.ts';
import { startEmulator } from '../qemu/emulator.ts';
import { leavePlace, placeVm } from './placeVm.ts';

/** One step of the jail, as it is on this host. */
export interface JailFinding {
  readonly step: JailStep;
  readonly possible: boolean;
  /** What QEMU has by it, or why it has not. */
  readonly detail: string;
  /** Where it is impossible: whether the configuration allows that. */
  readonly allowed: boolean;
}

const promises: Readonly<Record<JailStep, string>> = {
  cgroup: 'a cgroup of its own, with limits of memory, CPU time and processes',
  namespaces: 'mount, pid, ipc, uts and cgroup namespaces of its own',
  network: 'an empty network namespace',
  root: 'a read-only file system with nothing but QEMU’s own files',
  limits: 'limits of open files, threads and file size; no core dumps',
  uid: 'a user of its own for each microVM',
  capabilities: 'no capabilities, and none to gain',
  'no-new-privileges': 'no new privileges',
  seccomp: 'QEMU’s seccomp filter with all denials',
};

/** What a daemon that is not root goes without, whatever the configuration says. */
const onlyRoots: ReadonlyMap<JailStep, string> = new Map([
  ['uid', 'the daemon is not root: every microVM runs as its user'],
  ['cgroup', 'the daemon is not root: microVMs are in its cgroup, without limits of their own'],
]);
const smallest = { memoryMiB: 128, vcpus: 1 };

/** Starts QEMU in the jail, to tell its version and end, and answers what became of each step. */
export async function examineJail(deps: VmmDeps, signal: AbortSignal): Promise<JailFinding[]> {
  const { jail } = deps;
  const missing = new Map<string, string>();
  const silent = { debug: () => {}, warn: () => {} };
  const place = await placeVm(
    { id: newVmId(), shape: { ...smallest, accelerator: 'tcg' } },
    { ...jail, allowed: jailSteps },
  );
  const started = await startEmulator(
    {
      arguments: ['-sandbox', qemuSandbox, '-version'],
      descriptors: [],
      accelerator: 'tcg',
      preload: false,
      cgroups: place.cgroups,
      missing: place.missing,
      fileBytes: 0,
    },
    { ...deps, log: silent, jail: { ...jail, allowed: jailSteps } },
    signal,
  );
  for (const { step, why } of started.missing) missing.set(step, why);
  const ended = await started.exited;
  await leavePlace(place.cgroups);
  if (ended.includes('-sandbox')) missing.set('seccomp', ended);
  const rootless = process.geteuid?.() !== 0;
  for (const [step, why] of rootless ? onlyRoots : []) missing.set(step, why);
  return jailSteps.map((step) => ({
    step,
    possible: !missing.has(step),
    detail: missing.get(step) ?? promises[step],
    allowed: jail.allowed.includes(step) || (rootless && onlyRoots.has(step)),
  }));
}
