import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, HrunError, messageOf } from '../../base/errors.ts';
import type { ResourcesSpec } from '../../oci/resourcesSpec.ts';
import { cgroupWith, isV2 } from '../../sys/cgroups.ts';
import { vmmOverheadMiB } from '../../vmm/jail/vmCgroups.ts';
import type { Accelerator } from '../../vmm/microVm.ts';
import type { HostCgroup } from './ociRecord.ts';

const mebibyte = 1024 * 1024;
/** What kernel, agent and page tables of a guest need beside the container (docs/oci.md). */
const guestOverheadMiB = 96;
/** Of v1, where a limit is a multiple of a page below this. */
const unlimited = -1n;

export interface VmSize {
  readonly memoryMiB: number;
  readonly vcpus: number;
}

/** How large a microVM is for what a container may use. Pure. */
export function vmSizeFor(
  resources: ResourcesSpec | undefined,
  defaults: { readonly memoryBytes: number; readonly cpus: number },
  hostCpus: number,
): VmSize {
  const limit = resources?.memory?.limit;
  const memoryBytes =
    limit === undefined || limit <= 0n ? defaults.memoryBytes : Number(limit) + guestOverheadMiB * mebibyte;
  const quota = resources?.cpu?.quota;
  const period = resources?.cpu?.period ?? 100_000n;
  const wanted =
    quota === undefined || quota <= 0n || period === 0n ? defaults.cpus : Number(quota) / Number(period);
  const vcpus = Math.max(1, Math.min(Math.ceil(wanted), hostCpus));
  return { memoryMiB: Math.ceil(memoryBytes / mebibyte), vcpus };
}

/** One value in one file of one cgroup. */
export interface CgroupWrite {
  readonly controller: string;
  readonly file: string;
  readonly value: string;
  /** Where this kernel has no such file, the guest alone does it. */
  readonly optional?: boolean;
}

/**
 * What a container's limits become in the host's cgroup, which holds the whole microVM: memory with the overhead of a
 * microVM of `memoryMiB`, CPU, cpusets, rates of devices and classes of traffic as they are. The number of processes counts in the guest only. Pure.
 */
export function hostLimits(
  resources: ResourcesSpec,
  memoryMiB: number,
  accelerator: Accelerator,
  v2: boolean,
): CgroupWrite[] {
  const { memory, cpu, blockIO, network } = resources;
  const writes: CgroupWrite[] = [];
  const add = (controller: string, file: string, value: bigint | string | undefined) => {
    if (value !== undefined && value !== '') writes.push({ controller, file, value: String(value) });
  };
  if (memory?.limit !== undefined) {
    const whole = BigInt(memoryMiB + vmmOverheadMiB[accelerator]) * BigInt(mebibyte);
    const limit = memory.limit <= 0n ? unlimited : whole;
    // The guest's own swap limit counts; the host may swap the microVM as any process.
    add('memory', v2 ? 'memory.max' : 'memory.limit_in_bytes', v2 && limit < 0n ? 'max' : limit);
  }
  if (memory?.reservation !== undefined && memory.reservation > 0n) {
    add('memory', v2 ? 'memory.low' : 'memory.soft_limit_in_bytes', memory.reservation);
  }
  if (blockIO !== undefined) writes.push(...blockLimits(blockIO, v2));
  // cgroup v2 has neither: there they are the business of whoever writes the rules
  if (network !== undefined && !v2) {
    add('net_cls', 'net_cls.classid', network.classID === undefined ? undefined : BigInt(network.classID));
    for (const { name, priority } of network.priorities)
      add('net_prio', 'net_prio.ifpriomap', `${name} ${priority}`);
  }
  if (cpu === undefined) return writes;
  const shares = cpu.shares === 0n ? undefined : cpu.shares;
  if (v2) {
    if (shares !== undefined) add('cpu', 'cpu.weight', 1n + ((shares - 2n) * 9999n) / 262_142n);
    if (cpu.quota !== undefined || cpu.period !== undefined) {
      const quota = cpu.quota === undefined || cpu.quota <= 0n ? 'max' : cpu.quota;
      add('cpu', 'cpu.max', `${quota} ${cpu.period ?? 100_000n}`);
    }
  } else {
    add('cpu', 'cpu.shares', shares);
    add('cpu', 'cpu.cfs_period_us', cpu.period === 0n ? undefined : cpu.period);
    add('cpu', 'cpu.cfs_quota_us', cpu.quota === 0n ? undefined : cpu.quota);
  }
  add('cpuset', 'cpuset.cpus', cpu.cpus);
  add('cpuset', 'cpuset.mems', cpu.mems);
  return writes;
}

/** Of the devices of the host, which the share server reads and writes. */
function blockLimits(blockIO: NonNullable<ResourcesSpec['blockIO']>, v2: boolean): CgroupWrite[] {
  // BFQ's, which takes the numbers of the spec as they are: no other scheduler that kernels still have weighs
  const weightFile = `${v2 ? 'io' : 'blkio'}.bfq.weight`;
  const weights = [
    ...(blockIO.weight ? [{ file: weightFile, value: String(blockIO.weight) }] : []),
    ...blockIO.weightDevice.flatMap(({ major, minor, weight }) =>
      weight
        ? [{ file: v2 ? weightFile : `${weightFile}_device`, value: `${major}:${minor} ${weight}` }]
        : [],
    ),
  ];
  const rates = [
    ['throttleReadBpsDevice', 'blkio.throttle.read_bps_device', 'rbps'],
    ['throttleWriteBpsDevice', 'blkio.throttle.write_bps_device', 'wbps'],
    ['throttleReadIOPSDevice', 'blkio.throttle.read_iops_device', 'riops'],
    ['throttleWriteIOPSDevice', 'blkio.throttle.write_iops_device', 'wiops'],
  ] as const;
  const controller = v2 ? 'io' : 'blkio';
  return [
    ...weights.map((write) => ({ controller, ...write, optional: true })),
    ...rates.flatMap(([name, file, key]) =>
      blockIO[name].map(({ major, minor, rate }) =>
        v2
          ? { controller, file: 'io.max', value: `${major}:${minor} ${key}=${rate}` }
          : { controller, file, value: `${major}:${minor} ${rate}` },
      ),
    ),
  ];
}

/** @throws HrunError INVALID_ARGUMENT naming the file and the value that the kernel refused */
export async function applyHostLimits(
  resources: ResourcesSpec,
  cgroups: readonly HostCgroup[],
  memoryMiB: number,
  accelerator: Accelerator,
): Promise<void> {
  const v2 = cgroups.some(isV2);
  for (const { controller, file, value, optional } of hostLimits(resources, memoryMiB, accelerator, v2)) {
    const cgroup = cgroupWith(controller, cgroups);
    if (cgroup === undefined) continue;
    const path = join(cgroup.directory, file);
    try {
      await writeFile(path, value);
    } catch (cause) {
      if (optional && errnoOf(cause) === 'ENOENT') continue;
      throw new HrunError('INVALID_ARGUMENT', `failed to write ${value} to ${path}: ${messageOf(cause)}`, {
        cause,
      });
    }
  }
}
