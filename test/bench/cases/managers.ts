import { managerHostOf } from '../../helpers/managerHost.ts';
import { ctrRuntime, openContainerd, openDocker, openPodman } from '../../helpers/managers.ts';
import { alternate, type Case, type Group, timed } from '../bench.ts';
import { rawBootMs } from '../rawBoot.ts';

export const managerNames = ['podman', 'docker', 'ctr'] as const;
export const managerCases = {
  rawBoot: 'raw QEMU boot, beside managers',
  run: (manager: (typeof managerNames)[number], runtime: 'runc' | 'hrun') =>
    `${manager} run --rm with ${runtime}`,
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
    const cases: Case[] = managerNames.flatMap((manager) =>
      (['runc', 'hrun'] as const).map((runtime) => ({
        name: managerCases.run(manager, runtime),
        sample: () => timed(() => launch[manager](runtime)),
      })),
    );
    await alternate(
      managers.name,
      [{ name: managerCases.rawBoot, sample: () => rawBootMs(bench) }, ...cases],
      bench,
    );
  },
};
