import type { GuestDeviceRule, GuestResources } from './guestRequest.ts';
import type { ResourcesSpec } from './resourcesSpec.ts';
import { invalidField, refuseFields } from './specFailure.ts';

/** "max" in the agent's contract. */
const max = 0xffff_ffff_ffff_ffffn;
const weightSpan = 9999n;

/**
 * The limits of the container's cgroup v2 in the guest. What belongs to the host's cgroup alone (cpuset, devices of block
 * I/O, network classes) is not in it.
 * @param prefix the JSON path of the resources
 * @throws HrunError SPEC_INVALID, SPEC_UNSUPPORTED
 */
export function guestResourcesOf(resources: ResourcesSpec, prefix = 'linux.resources'): GuestResources {
  refuseUnknownToCgroup2(resources, prefix);
  const { memory, pids, unified, devices, hugepageLimits, blockIO } = resources;
  const pidsMax = limitOf(pids?.limit);
  return {
    ...memoryLimits(memory, `${prefix}.memory`),
    ...(memory?.checkBeforeUpdate && { memoryCheckBeforeUpdate: true }),
    ...cpuLimits(resources.cpu),
    ...(pidsMax !== undefined && { pidsMax }),
    ...(blockIO?.weight && { ioWeight: Number(ioWeight(BigInt(blockIO.weight))) }),
    ...(hugepageLimits.length > 0 && {
      hugepageLimits: hugepageLimits.map(({ pageSize, limit }) => ({ pageSize, limitBytes: limit })),
    }),
    ...(Object.keys(unified).length > 0 && { unified: checkUnified(unified, `${prefix}.unified`) }),
    ...(devices.length > 0 && { deviceRules: { rules: deviceRules(devices, `${prefix}.devices`) } }),
  };
}

function refuseUnknownToCgroup2({ memory, cpu, blockIO }: ResourcesSpec, prefix: string): void {
  const gone = 'the kernel no longer has this limit';
  refuseFields([
    [`${prefix}.memory.kernel`, (memory?.kernel ?? 0n) > 0n, gone],
    [`${prefix}.memory.kernelTCP`, (memory?.kernelTCP ?? 0n) > 0n, gone],
    [
      `${prefix}.memory.disableOOMKiller`,
      memory?.disableOOMKiller === true,
      'cgroup v2, which the guest has, cannot switch it off',
    ],
    [
      `${prefix}.cpu.realtimeRuntime`,
      (cpu?.realtimeRuntime ?? 0n) > 0n,
      'cgroup v2, which the guest has, cannot limit it',
    ],
    [
      `${prefix}.blockIO.leafWeight`,
      (blockIO?.leafWeight ?? 0) > 0,
      'cgroup v2, which the guest has, has none',
    ],
  ]);
}

function memoryLimits(memory: ResourcesSpec['memory'], prefix: string): GuestResources {
  const memoryMaxBytes = limitOf(memory?.limit);
  const memoryLowBytes = limitOf(memory?.reservation);
  const memorySwapMaxBytes = swapLimit(memory?.limit ?? 0n, memory?.swap ?? 0n, `${prefix}.swap`);
  return {
    ...(memoryMaxBytes !== undefined && { memoryMaxBytes }),
    ...(memoryLowBytes !== undefined && { memoryLowBytes }),
    ...(memorySwapMaxBytes !== undefined && { memorySwapMaxBytes }),
  };
}

/** memory.swap of the spec counts memory too, as cgroup v1 did; cgroup v2 limits swap alone. As runc converts it. */
function swapLimit(limit: bigint, swap: bigint, field: string): bigint | undefined {
  if (limit < 0n && swap === 0n) return max;
  if (swap === 0n) return undefined;
  if (swap < 0n) return max;
  if (limit <= 0n) throw invalidField(field, 'unable to set swap limit without memory limit');
  if (swap < limit) throw invalidField(field, 'memory+swap limit should be >= memory limit');
  return swap - limit;
}

function cpuLimits(cpu: ResourcesSpec['cpu']): GuestResources {
  if (!cpu) return {};
  const cpuQuotaUs = limitOf(cpu.quota);
  return {
    ...(cpuQuotaUs !== undefined && { cpuQuotaUs }),
    ...(cpu.period && { cpuPeriodUs: cpu.period }),
    ...(cpu.burst !== undefined && { cpuBurstUs: cpu.burst }),
    ...(cpu.shares && { cpuWeight: cpuWeight(cpu.shares) }),
    ...(cpu.idle !== undefined && { cpuIdle: cpu.idle !== 0n }),
  };
}

/** 0 means "not set", less than 0 "no limit". */
function limitOf(value: bigint | undefined): bigint | undefined {
  if (value === undefined || value === 0n) return undefined;
  return value < 0n ? max : value;
}

/** cpu.shares of 2 to 262144 → cpu.weight of 1 to 10000, as runc. */
function cpuWeight(shares: bigint): bigint {
  const clamped = shares < 2n ? 2n : shares > 262_144n ? 262_144n : shares;
  return 1n + ((clamped - 2n) * weightSpan) / 262_142n;
}

/** blkio.weight of 10 to 1000 → io.weight of 1 to 10000, as runc. */
function ioWeight(weight: bigint): bigint {
  const clamped = weight < 10n ? 10n : weight > 1000n ? 1000n : weight;
  return 1n + ((clamped - 10n) * weightSpan) / 990n;
}

function checkUnified(unified: Record<string, string>, field: string): Record<string, string> {
  for (const [name, value] of Object.entries(unified)) {
    if (name.includes('/')) {
      throw invalidField(field, `unified resource ${JSON.stringify(name)} must be a file name (no slashes)`);
    }
    if (!/^[a-z][a-z0-9_]*(\.[a-zA-Z0-9_]+)+$/.test(name)) {
      throw invalidField(field, `${JSON.stringify(name)} is no file of a cgroup`);
    }
    if (value.length > 4096) throw invalidField(`${field}.${name}`, 'is too long');
  }
  return unified;
}

function deviceRules(devices: ResourcesSpec['devices'], field: string): GuestDeviceRule[] {
  return devices.map(({ allow, type, major, minor, access }, index) => {
    if (!['', 'a', 'b', 'c'].includes(type)) {
      throw invalidField(`${field}.${index}.type`, `${JSON.stringify(type)} is no type of device`);
    }
    if (!/^[rwm]*$/.test(access)) {
      throw invalidField(`${field}.${index}.access`, `${JSON.stringify(access)} is no kind of access`);
    }
    // -1 is the wildcard of runc
    const number = (value: bigint | undefined) =>
      value === undefined || value < 0n ? undefined : Number(value);
    const [majorNumber, minorNumber] = [number(major), number(minor)];
    return {
      allow,
      type,
      ...(majorNumber !== undefined && { major: majorNumber }),
      ...(minorNumber !== undefined && { minor: minorNumber }),
      access,
    };
  });
}
