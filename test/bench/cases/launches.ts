import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { alternate, type Bench, type Case, type Group, timed } from '../bench.ts';
import { openPodman, podmanImage } from '../podman.ts';
import { rawBootMs } from '../rawBoot.ts';
import { openRawRestore } from '../rawRestore.ts';

export const launchCases = {
  rawBoot: 'raw QEMU boot, spawn to agent ready',
  rawRestore: 'raw QEMU restore, spawn to agent’s answer',
  cold: 'hrun run --rm, cold',
  cloned: 'hrun run --rm, cloned',
  pooled: 'hrun run --rm, pooled',
  runc: 'podman run --rm with runc',
  crun: 'podman run --rm with crun',
} as const;

type Kind = 'cold' | 'cloned' | 'pooled';

/** A container that does nothing, from the command to its exit. */
export const launches: Group = {
  name: 'launch',
  about: 'launch of `busybox true`, from the command to its exit',
  async run(bench) {
    const { host } = bench;
    await using podman = await openPodman(join(host.directory, 'podman'));
    // What is made once per host is no part of a launch: the image's disk, the template.
    await host.ok(['run', '--rm', 'busybox', 'true']);
    using restore = await openRawRestore(bench);
    const withPodman = (runtime: 'runc' | 'crun') => () =>
      timed(() => podman.podman(runtime, ['run', '--rm', '--network=none', podmanImage, 'true']));
    const cases: Case[] = [
      { name: launchCases.rawBoot, sample: () => rawBootMs(bench) },
      { name: launchCases.rawRestore, sample: () => restore.sampleMs() },
      { name: launchCases.cold, sample: () => launchMs('cold', bench) },
      { name: launchCases.cloned, sample: () => launchMs('cloned', bench) },
      { name: launchCases.pooled, sample: () => launchMs('pooled', bench) },
      { name: launchCases.runc, sample: withPodman('runc') },
      { name: launchCases.crun, sample: withPodman('crun') },
    ];
    await alternate(launches.name, cases, bench);
    await host.ok(['pool', 'set', '--ready', '2']);
  },
};

/** One launch that came about as wanted. The pool is emptied or filled before, and nothing is made beside it. */
async function launchMs(kind: Kind, bench: Bench): Promise<number> {
  const { host } = bench;
  await host.ok(['pool', 'set', '--ready', kind === 'pooled' ? '1' : '0']);
  if (kind === 'pooled') await untilReady('clone', bench);
  const flags = kind === 'cold' ? ['--cold'] : [];
  const started = performance.now();
  const { code, stderr } = await host.hrun(['run', '--rm', '--timing', ...flags, 'busybox', 'true']);
  const elapsedMs = performance.now() - started;
  if (code !== 0) throw new Error(`exit code ${code}: ${stderr}`);
  const launched = /^launch: (\w+)/m.exec(stderr)?.[1];
  if (launched !== kind) throw new Error(`a launch that was to be ${kind} was ${launched}: ${stderr}`);
  return elapsedMs;
}

/** Until a microVM waits for a container of an image, or of a bundle. */
export async function untilReady(kind: 'clone' | 'bundle', { host }: Pick<Bench, 'host'>): Promise<void> {
  for (;;) {
    const status: { shelves: { kind: string; ready: number }[] } = JSON.parse(
      await host.ok(['pool', 'status', '--format', 'json']),
    );
    if (status.shelves.some((shelf) => shelf.kind === kind && shelf.ready > 0)) return;
    await sleep(20);
  }
}
