import type { Bench, Group } from '../bench.ts';
import { cpuMs, parentOf } from '../processes.ts';

const launchesPerBurst = 50;

/** Many launches at once: how long each takes, how many fail, and what they cost. */
export const bursts: Group = {
  name: 'burst',
  about: `burst of ${launchesPerBurst} \`hrun run --rm busybox true\``,
  async run(bench) {
    for (const atOnce of [1, 4, 16]) await burst(atOnce, bench);
  },
};

async function burst(atOnce: number, bench: Bench): Promise<void> {
  const { host, record } = bench;
  const group = bursts.name;
  const name = `${atOnce} at once`;
  const before = await spentMs(bench);
  let started = 0;
  let failures = 0;
  const worker = async () => {
    while (started++ < launchesPerBurst) {
      bench.interrupted.throwIfAborted();
      const begin = performance.now();
      const { code, stderr } = await host.hrun(['run', '--rm', 'busybox', 'true']);
      if (code === 0) record.add(group, name, performance.now() - begin);
      else {
        failures += 1;
        record.fail(group, name, new Error(`exit code ${code}: ${stderr}`));
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  const spent = (await spentMs(bench)) - before;
  record.add(group, `${name}, failures`, failures, 'of 50');
  record.add(group, `${name}, CPU per launch`, spent / 1000 / launchesPerBurst, 's');
}

/**
 * CPU time of front doors (children of this process), of the daemon, and of the VMs that it, or the keeper in its place,
 * has reaped.
 */
async function spentMs({ host }: Bench): Promise<number> {
  const daemonPid = await host.daemonPid();
  const daemon = await cpuMs(daemonPid);
  const keeper = await cpuMs(await parentOf(daemonPid));
  const own = await cpuMs('self');
  return own.reaped + daemon.own + daemon.reaped + keeper.own + keeper.reaped;
}
