import { managerHostOf } from '../../helpers/managerHost.ts';
import { ctrRuntime, openContainerd, openDocker, openPodman } from '../../helpers/managers.ts';
import { alternate, type Bench, type Case, type Group, timed } from '../bench.ts';
import { rawBootMs } from '../rawBoot.ts';
import { untilReady } from './launches.ts';

export const managerNames = ['podman', 'docker', 'ctr'] as const;
const runtimes = ['runc', 'hrun', 'hrun from its pool'] as const;
type Runtime = (typeof runtimes)[number];

export const managerCases = {
  rawBoot: 'raw QEMU boot, beside managers',
  run: (manager: (typeof managerNames)[number], runtime: Runtime) => `${manager} run --rm with ${runtime}`,
} as const;

/** Containers as managers start them, with runc and with hrun in its place. */
export const managers: Group = {
  name: 'manager',
  about: '`true` in a container of podman, dockerd and containerd, from the command to its exit',
  async run(bench) {
    await using host = await managerHostOf(bench.host);
    await using podman = await openPodman(host);
    const docker = await openDocker(host);
    const containerd = await openContainerd(host);
    // runc may not raise limits above those of whoever calls it
    const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024'];
    const launch = {
      podman: (runtime: string) =>
        podman.ok('--runtime', runtime, 'run', '--rm', ...limits, '--network=none', podman.image, 'true'),
      docker: (runtime: string) =>
        docker.ok('run', '--rm', '--runtime', runtime, '--network', 'none', docker.image, 'true'),
      ctr: (runtime: string) => {
        const path = runtime === 'hrun' ? '/usr/local/bin/hrun' : '/usr/sbin/runc';
        return containerd.ok('run', '--rm', ...ctrRuntime(path), containerd.image, 'bench', 'true');
      },
    };
    // The pool learns the shape.
    await launch.ctr('hrun');
    const cases: Case[] = managerNames.flatMap((manager) =>
      runtimes.map((runtime) => ({
        name: managerCases.run(manager, runtime),
        async sample() {
          if (runtime === 'runc') return await timed(() => launch[manager](runtime));
          const pooled = runtime !== 'hrun';
          await bench.host.ok(['pool', 'set', '--ready', pooled ? '1' : '0']);
          if (pooled) await untilReady('bundle', bench);
          const elapsedMs = await timed(() => launch[manager]('hrun'));
          expectLaunch(pooled ? 'pooled' : 'cold', await lastLaunch(bench));
          return elapsedMs;
        },
      })),
    );
    await alternate(
      managers.name,
      [{ name: managerCases.rawBoot, sample: () => rawBootMs(bench) }, ...cases],
      bench,
    );
    await bench.host.ok(['pool', 'set', '--ready', '2']);
  },
};

/** How the microVM of the last container came to be. */
async function lastLaunch({ host }: Bench): Promise<string> {
  const past = ['events', '--since', '5m', '--until', '0s', '--filter', 'event=launch'];
  const lines = await host.ok([...past, '--format', '{{.Actor.Attributes.launch}}']);
  return lines.split('\n').at(-1) ?? '';
}

function expectLaunch(wanted: string, was: string): void {
  if (was !== wanted) throw new Error(`a launch that was to be ${wanted} was ${was}`);
}
