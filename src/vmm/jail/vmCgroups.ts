import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { allSettled } from '../../base/abort.ts';
import { errnoOf } from '../../base/errors.ts';
import type { VmId } from '../../base/ids.ts';
import { cgroupMounts, type HostCgroup, isV2 } from '../../sys/cgroups.ts';
import type { Accelerator } from '../microVm.ts';

/**
 * What QEMU needs beside the guest's memory, MiB: measured, with room (docs/oci.md). TCG keeps up to 128 MiB of
 * translated code.
 */
export const vmmOverheadMiB: Readonly<Record<Accelerator, number>> = { kvm: 128, tcg: 320 };
/** Threads: as the limit of its user's, with room for those that start it. */
const mostProcesses = 520;
const periodUs = 100_000;

export interface VmLimits {
  readonly memoryMiB: number;
  readonly vcpus: number;
  readonly accelerator: Accelerator;
}

/**
 * Makes a cgroup for one VM in each hierarchy that limits memory, CPU time or processes, beside the cgroup of this
 * process, whose own processes would forbid cgroup v2 to limit what is below it.
 * @param runDir the daemon's, by which its cgroups are told from those of others
 * @throws the system error when one cannot be made, with nothing left, or there is none
 */
export async function makeVmCgroups(id: VmId, limits: VmLimits, runDir: string): Promise<HostCgroup[]> {
  const parents = await parentCgroups();
  if (parents.length === 0) throw new Error('no cgroup file system that limits memory is mounted');
  const cgroups = parents.map((parent) => ({
    ...parent,
    directory: join(parent.directory, `${prefixOf(runDir)}${id}`),
  }));
  try {
    await allSettled(cgroups.map((cgroup) => makeCgroup(cgroup, limits)));
    return cgroups;
  } catch (cause) {
    for (const { directory } of cgroups) await rmdir(directory).catch(() => {});
    throw cause;
  }
}

async function makeCgroup(cgroup: HostCgroup, limits: VmLimits): Promise<void> {
  await makeParent({ ...cgroup, directory: dirname(cgroup.directory) });
  await mkdir(cgroup.directory, { mode: 0o755 });
  for (const [file, value] of limitsOf(cgroup, limits)) await writeFile(join(cgroup.directory, file), value);
}

/** Removes those of this daemon that nothing lives in: what an earlier one left. */
export async function sweepVmCgroups(runDir: string): Promise<void> {
  const prefix = prefixOf(runDir);
  for (const { directory } of await parentCgroups()) {
    const names = await readdir(directory).catch(() => []);
    for (const name of names.filter((found) => found.startsWith(prefix))) {
      await rmdir(join(directory, name)).catch((error: unknown) => {
        if (!['EBUSY', 'ENOENT'].includes(errnoOf(error) ?? '')) throw error;
      });
    }
  }
}

function prefixOf(runDir: string): string {
  return `${createHash('sha256').update(runDir).digest('hex').slice(0, 8)}-`;
}

/** Where the cgroups of VMs are, in each hierarchy that is of use. */
async function parentCgroups(): Promise<HostCgroup[]> {
  const [mountinfo, own] = await Promise.all(
    ['mountinfo', 'cgroup'].map((name) => readFile(`/proc/self/${name}`, 'utf8')),
  );
  return vmParents(mountinfo ?? '', own ?? '');
}

/** As mountinfo(5) and /proc/PID/cgroup tell. Pure. */
export function vmParents(mountinfo: string, cgroups: string): HostCgroup[] {
  const wanted = ['memory', 'cpu', 'pids'];
  return cgroupMounts(mountinfo)
    .filter((mount) => isV2(mount) || mount.controllers.some((controller) => wanted.includes(controller)))
    .map(({ directory, controllers }) => {
      const own = pathOf(cgroups, controllers);
      const name = own === '/' ? 'hrun' : basename(own);
      return { controllers, directory: join(directory, dirname(own), `${name}.vms`) };
    });
}

function pathOf(cgroups: string, controllers: readonly string[]): string {
  for (const line of cgroups.trim().split('\n')) {
    const [, names = '', ...path] = line.split(':');
    if (names === controllers.join(',')) return path.join(':');
  }
  return '/';
}

async function makeParent(parent: HostCgroup): Promise<void> {
  const { directory } = parent;
  await mkdir(directory, { recursive: true, mode: 0o755 });
  if (!isV2(parent)) return;
  const known = await readFile(join(directory, 'cgroup.subtree_control'), 'utf8');
  if (['memory', 'cpu', 'pids'].every((controller) => known.includes(controller))) return;
  for (const at of [dirname(directory), directory]) {
    await writeFile(join(at, 'cgroup.subtree_control'), '+memory +cpu +pids');
  }
}

/** Files and what is written to them, in order. Pure. */
export function limitsOf(
  cgroup: HostCgroup,
  { memoryMiB, vcpus, accelerator }: VmLimits,
): [string, string][] {
  const memoryBytes = String((memoryMiB + vmmOverheadMiB[accelerator]) * 1024 * 1024);
  // one more, for what QEMU does beside its guest
  const quotaUs = (vcpus + 1) * periodUs;
  if (isV2(cgroup)) {
    return [
      ['memory.max', memoryBytes],
      ['memory.oom.group', '1'],
      ['cpu.max', `${quotaUs} ${periodUs}`],
      ['pids.max', String(mostProcesses)],
    ];
  }
  const files: Readonly<Record<string, [string, string][]>> = {
    memory: [['memory.limit_in_bytes', memoryBytes]],
    cpu: [
      ['cpu.cfs_period_us', String(periodUs)],
      ['cpu.cfs_quota_us', String(quotaUs)],
    ],
    pids: [['pids.max', String(mostProcesses)]],
  };
  return cgroup.controllers.flatMap((controller) => files[controller] ?? []);
}
