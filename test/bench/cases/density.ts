import { freemem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench, Group } from '../bench.ts';
import { cpuMs, type Memory, memoryOf } from '../processes.ts';

/** Left to the host, bytes: a density that swaps is none. */
const reserveBytes = 2 * 1024 ** 3;
const idleWatchMs = 10_000;

interface Idle {
  readonly name: string;
  readonly vmPid: number;
  readonly standInPid: number;
}

/** Idle containers: what each costs in memory and CPU, and whether all of them still answer. */
export const density: Group = {
  name: 'density',
  about: 'idle containers (`sleep`), memory and CPU of each',
  async run(bench) {
    const { host, record } = bench;
    const group = density.name;
    const daemonPid = await host.daemonPid();
    const daemonBefore = await memoryOf(daemonPid);
    const running: Idle[] = [];
    try {
      while (running.length < bench.density && freemem() > reserveBytes) {
        bench.interrupted.throwIfAborted();
        running.push(await startIdle(`idle${running.length}`, bench));
      }
      record.add(group, 'idle containers', running.length, 'containers', 'higher');
      for (const { vmPid, standInPid } of running) {
        addMemory(group, 'QEMU', await memoryOf(vmPid), bench);
        if (standInPid > 0) addMemory(group, 'stand-in', await memoryOf(standInPid), bench);
      }
      if (running.every(({ standInPid }) => standInPid === 0)) {
        record.cannot(group, 'stand-in', 'a container without bind mounts has none');
      }
      const daemonAfter = await memoryOf(daemonPid);
      const growth = (daemonAfter.rssMiB - daemonBefore.rssMiB) / running.length;
      record.add(group, 'daemon, growth per container', growth, 'MiB');
      record.add(
        group,
        'CPU of an idle VM and its share of the daemon',
        await idleCpu(running, daemonPid),
        '%',
      );
      for (const { name } of running) await host.ok(['exec', name, 'true']);
      for (const { vmPid } of running)
        addMemory(group, 'QEMU after a first exec', await memoryOf(vmPid), bench);
    } finally {
      if (running.length > 0) await host.ok(['rm', '-f', ...running.map(({ name }) => name)]);
    }
  },
};

async function startIdle(name: string, { host }: Bench): Promise<Idle> {
  await host.ok(['run', '-d', '--name', name, 'busybox', 'sleep', '1000000']);
  const pids = await host.ok(['inspect', '--format', '{{.State.VmPid}} {{.State.Pid}}', name]);
  const [vmPid = 0, standInPid = 0] = pids.split(' ').map(Number);
  return { name, vmPid, standInPid };
}

function addMemory(group: string, name: string, { pssMiB, privateMiB }: Memory, { record }: Bench): void {
  record.add(group, `${name}, PSS`, pssMiB, 'MiB');
  record.add(group, `${name}, private`, privateMiB, 'MiB');
}

/** Percent of a core for each. */
async function idleCpu(running: readonly Idle[], daemonPid: number): Promise<number> {
  const spent = async () => {
    let total = 0;
    for (const pid of [daemonPid, ...running.map(({ vmPid }) => vmPid)]) total += (await cpuMs(pid)).own;
    return total;
  };
  const before = await spent();
  await sleep(idleWatchMs);
  return (((await spent()) - before) / idleWatchMs / running.length) * 100;
}
