import { join } from 'node:path';
import { alternate, type Group, timed } from '../bench.ts';
import { openPodman, podmanImage } from '../podman.ts';

export const execCases = {
  hrun: 'hrun exec',
  runc: 'podman exec with runc',
  crun: 'podman exec with crun',
} as const;

/** `true` in a container that runs already. */
export const execs: Group = {
  name: 'exec',
  about: 'exec of `true` in a running container',
  async run(bench) {
    const { host } = bench;
    await using podman = await openPodman(join(host.directory, 'podman'));
    await host.ok(['run', '-d', '--name', 'bench', 'busybox', 'sleep', '100000']);
    for (const runtime of ['runc', 'crun'] as const) {
      const start = ['run', '-d', '--name', runtime, '--network=none', podmanImage, 'sleep', '100000'];
      await podman.podman(runtime, start).catch((error: unknown) => {
        bench.record.fail(execs.name, execCases[runtime], error);
      });
    }
    const failed = new Set(bench.record.failures.map(({ name }) => name));
    const cases = [
      { name: execCases.hrun, sample: () => timed(() => host.ok(['exec', 'bench', 'true'])) },
      ...(['runc', 'crun'] as const).map((runtime) => ({
        name: execCases[runtime],
        sample: () => timed(() => podman.podman(runtime, ['exec', runtime, 'true'])),
      })),
    ];
    const measurable = cases.filter(({ name }) => !failed.has(name));
    await alternate(execs.name, measurable, bench);
    await host.ok(['rm', '-f', 'bench']);
  },
};
