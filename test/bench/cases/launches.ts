import { join } from 'node:path';
import { alternate, type Bench, type Case, type Group, timed } from '../bench.ts';
import { openPodman, podmanImage } from '../podman.ts';
import { rawBootMs } from '../rawBoot.ts';

export const launchCases = {
  rawBoot: 'raw QEMU, spawn to agent ready',
  cold: 'hrun run --rm --cold busybox true',
  run: 'hrun run --rm busybox true',
  runc: 'podman run --rm with runc',
  crun: 'podman run --rm with crun',
} as const;

/** A container that does nothing, from the command to its exit. */
export const launches: Group = {
  name: 'launch',
  about: 'launch of `busybox true`, from the command to its exit',
  async run(bench) {
    const { host } = bench;
    await using podman = await openPodman(join(host.directory, 'podman'));
    const withPodman = (runtime: 'runc' | 'crun') => () =>
      timed(() => podman.podman(runtime, ['run', '--rm', '--network=none', podmanImage, 'true']));
    // What is made once per host is not part of a launch.
    await host.ok(['run', '--rm', 'busybox', 'true']);
    await host.ok(['run', '--rm', '--cold', 'busybox', 'true']);
    const cases: Case[] = [
      { name: launchCases.rawBoot, sample: () => rawBootMs(bench) },
      ...hrunCases(bench),
      { name: launchCases.runc, sample: withPodman('runc') },
      { name: launchCases.crun, sample: withPodman('crun') },
    ];
    await alternate(launches.name, cases, bench);
  },
};

function hrunCases({ host }: Bench): Case[] {
  const run = (...flags: string[]) => timed(() => host.ok(['run', '--rm', ...flags, 'busybox', 'true']));
  return [
    { name: launchCases.cold, sample: () => run('--cold') },
    { name: launchCases.run, sample: () => run() },
  ];
}
