import { HrunError } from '../../base/errors.ts';
import { parseSize } from '../../base/units.ts';
import { parseResourcesSpec, type ResourcesSpec } from '../../oci/resourcesSpec.ts';
import { maxSpecBytes } from '../../oci/specJson.ts';
import type { FlagSpec, Flags } from './goFlags.ts';
import type { OciCall, OciVerb } from './ociVerb.ts';

const flags: readonly FlagSpec[] = [
  { name: 'resources', aliases: ['r'], kind: 'string', description: 'path to the resources, - for stdin' },
  { name: 'blkio-weight', kind: 'string', description: 'per cgroup weight, between 10 and 1000' },
  { name: 'cpu-period', kind: 'string', description: 'CPU CFS period to be used for hardcapping (in usecs)' },
  { name: 'cpu-quota', kind: 'string', description: 'CPU CFS hardcap limit (in usecs)' },
  { name: 'cpu-burst', kind: 'string', description: 'CPU CFS hardcap burst limit (in usecs)' },
  { name: 'cpu-share', kind: 'string', description: 'CPU shares (relative weight)' },
  { name: 'cpu-rt-period', kind: 'string', description: 'CPU realtime period' },
  { name: 'cpu-rt-runtime', kind: 'string', description: 'CPU realtime hardcap limit' },
  { name: 'cpuset-cpus', kind: 'string', description: 'CPU(s) to use' },
  { name: 'cpuset-mems', kind: 'string', description: 'memory node(s) to use' },
  { name: 'kernel-memory', kind: 'string', description: 'ignored: obsoleted' },
  { name: 'kernel-memory-tcp', kind: 'string', description: 'ignored: obsoleted' },
  { name: 'memory', kind: 'string', description: 'memory limit (in bytes)' },
  { name: 'memory-reservation', kind: 'string', description: 'memory reservation or soft limit (in bytes)' },
  {
    name: 'memory-swap',
    kind: 'string',
    description: 'total memory usage (memory + swap); -1 for unlimited',
  },
  { name: 'pids-limit', kind: 'string', description: 'maximum number of pids allowed in the container' },
  { name: 'l3-cache-schema', kind: 'string', description: 'refused: the guest has no Intel RDT' },
  { name: 'mem-bw-schema', kind: 'string', description: 'refused: the guest has no Intel RDT' },
  { name: 'cpu-idle', kind: 'string', description: 'set cgroup SCHED_IDLE or not, 0: default, 1: idle' },
];

export const update: OciVerb = {
  name: 'update',
  summary: 'update container resource constraints',
  usage: '[command options] <container-id>',
  args: [1, 1],
  flags,
  async run(call) {
    const { oci, flags: given, signal, name } = call;
    const resources = await resourcesOf(call, given);
    await oci.update(name(), resources, signal);
    return 0;
  },
};

async function resourcesOf({ caller, context, signal }: OciCall, given: Flags): Promise<ResourcesSpec> {
  const path = given.text('resources');
  if (path === undefined) refuseRdt(given);
  if (path === '-') {
    const parts: Buffer[] = [];
    let length = 0;
    for await (const part of context.session.files.readStdin(signal)) {
      length += part.length;
      if (length > maxSpecBytes) break;
      parts.push(part);
    }
    return parseResourcesSpec(Buffer.concat(parts), 'the resources on stdin');
  }
  if (path !== undefined) {
    return parseResourcesSpec(await caller.files.readFile(path, maxSpecBytes + 1, signal), path);
  }
  return parseResourcesSpec(Buffer.from(JSON.stringify(flagResources(given))), 'the options');
}

/** @throws HrunError SPEC_UNSUPPORTED with runc's text where the host has none */
function refuseRdt(given: Flags): void {
  const what = given.has('l3-cache-schema')
    ? 'CAT: l3 cache schema'
    : given.has('mem-bw-schema')
      ? 'MBA: memory bandwidth schema'
      : undefined;
  if (what !== undefined) throw new HrunError('SPEC_UNSUPPORTED', `Intel RDT/${what} is not enabled`);
}

/** The single options as the document that `--resources` takes. Pure. */
function flagResources(given: Flags): object {
  const memory = {
    limit: bytes(given, 'memory'),
    reservation: bytes(given, 'memory-reservation'),
    swap: bytes(given, 'memory-swap'),
  };
  const cpu = {
    period: given.integer('cpu-period'),
    quota: given.integer('cpu-quota'),
    burst: given.integer('cpu-burst'),
    shares: given.integer('cpu-share'),
    realtimePeriod: given.integer('cpu-rt-period'),
    realtimeRuntime: given.integer('cpu-rt-runtime'),
    cpus: given.text('cpuset-cpus'),
    mems: given.text('cpuset-mems'),
    idle: given.integer('cpu-idle'),
  };
  const limit = given.integer('pids-limit');
  const weight = given.integer('blkio-weight');
  return {
    memory,
    cpu,
    ...(limit !== undefined && { pids: { limit } }),
    ...(weight !== undefined && { blockIO: { weight } }),
  };
}

/** As docker's units: `100m`, or -1. */
function bytes(given: Flags, name: string): number | undefined {
  const text = given.text(name);
  if (text === undefined) return undefined;
  if (text === '-1') return -1;
  try {
    return parseSize(text, name);
  } catch (cause) {
    throw new HrunError('INVALID_ARGUMENT', `invalid value for ${name}: ${text}`, { cause });
  }
}
