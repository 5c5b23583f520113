import type { OciStats } from '../../runtime/oci/ociEngine.ts';

/**
 * One line of `events`, with runc's names. The numbers are those of the host's cgroup, which holds the whole microVM; the
 * files of the guest's cgroup stand beside them as they are. Pure.
 */
export function renderStats(id: string, { host, guest }: OciStats): string {
  const memoryStat = table(host['memory.stat']);
  const cpuStat = table(host['cpu.stat']);
  const cpuacct = table(host['cpuacct.stat']);
  // Nanoseconds in v1, microseconds in v2; ticks of 10 ms for the two halves of v1.
  const total = number(host['cpuacct.usage']) ?? (cpuStat.usage_usec ?? 0) * 1000;
  const data = {
    cpu: {
      usage: {
        total,
        percpu: (host['cpuacct.usage_percpu'] ?? '').trim().split(/\s+/).filter(Boolean).map(Number),
        kernel: cpuacct.system === undefined ? (cpuStat.system_usec ?? 0) * 1000 : cpuacct.system * 1e7,
        user: cpuacct.user === undefined ? (cpuStat.user_usec ?? 0) * 1000 : cpuacct.user * 1e7,
      },
      throttling: {
        periods: cpuStat.nr_periods ?? 0,
        throttledPeriods: cpuStat.nr_throttled ?? 0,
        throttledTime: cpuStat.throttled_time ?? (cpuStat.throttled_usec ?? 0) * 1000,
      },
    },
    memory: {
      cache: memoryStat.total_cache ?? memoryStat.file ?? 0,
      usage: memoryOf(host, 'memory', { usage: 'memory.current', limit: 'memory.max' }),
      swap: memoryOf(host, 'memory.memsw', { usage: 'memory.swap.current', limit: 'memory.swap.max' }),
      kernel: memoryOf(host, 'memory.kmem'),
      kernelTCP: memoryOf(host, 'memory.kmem.tcp'),
      raw: memoryStat,
    },
    pids: { current: number(guest['pids.current']) ?? 0, limit: number(guest['pids.max']) ?? 0 },
    blkio: {},
    hugetlb: {},
    intel_rdt: {},
    network_interfaces: null,
    guest,
  };
  return JSON.stringify({ type: 'stats', id, data });
}

/** Numbers of one kind of memory, from the files of cgroup v1 that begin with `name`, or those of v2. */
function memoryOf(
  host: OciStats['host'],
  name: string,
  v2?: { readonly usage: string; readonly limit: string },
): object {
  const file = (last: string, other?: string) =>
    number(host[`${name}.${last}`] ?? (other === undefined ? undefined : host[other])) ?? 0;
  return {
    limit: file('limit_in_bytes', v2?.limit),
    usage: file('usage_in_bytes', v2?.usage),
    max: file('max_usage_in_bytes'),
    failcnt: file('failcnt'),
  };
}

function number(text: string | undefined): number | undefined {
  const value = Number.parseInt(text ?? '', 10);
  return Number.isNaN(value) ? undefined : value;
}

/** `name value` lines. */
function table(text = ''): Record<string, number> {
  const entries = text.split('\n').flatMap((line) => {
    const [name, value] = line.trim().split(/\s+/);
    return name === undefined || value === undefined ? [] : [[name, Number(value)] as const];
  });
  return Object.fromEntries(entries);
}
