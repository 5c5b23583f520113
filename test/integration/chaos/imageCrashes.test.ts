import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import type { CrashPoint } from '../../../src/base/crashPoint.ts';
import { type CrashHost, killAll, newCrashHost } from '../../helpers/crashHost.ts';
import { contentOf, type FakeRegistry, startFakeRegistry } from '../../helpers/fakeRegistry.ts';
import { resultOf } from '../../helpers/hrunHost.ts';
import { buildImage, tarOf } from '../../helpers/images.ts';
import { report } from '../../helpers/report.ts';

const victims = ['hrund', 'qemu', 'front door'] as const;
const pulling: readonly CrashPoint[] = ['pull.stored', 'pull.recorded'];
const unpacking: readonly CrashPoint[] = ['unpack.made', 'unpack.unpacked', 'unpack.published'];

describe('a crash while an image is pulled or unpacked', () => {
  let crash: CrashHost;
  let registry: FakeRegistry;
  let image: string;
  let tried = 0;

  before(async () => {
    const busybox = await readFile('/bin/busybox');
    const links = ['sh', 'echo'].map((name) => ({
      name: `bin/${name}`,
      type: 'SymbolicLink' as const,
      target: 'busybox',
    }));
    const tar = tarOf([
      { name: 'bin/', type: 'Directory' },
      { name: 'bin/busybox', content: busybox, mode: 0o755 },
      ...links,
    ]);
    registry = await startFakeRegistry(contentOf(buildImage({ layers: [{ tar }] })));
    image = `${registry.address}/team/app:v1`;
    crash = await newCrashHost();
  });
  after(async () => {
    await report('chaos', 'a kill while an image is pulled or unpacked', { times: tried, lies: 0, leaks: 0 });
    await crash[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
  });

  /** Kills a participant at a point of a command, and gives back what that was told. */
  async function crashIn(args: readonly string[], point: CrashPoint, victim: (typeof victims)[number]) {
    await crash.arm(point);
    const child = crash.host.start(args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const result = resultOf(child);
    await Promise.race([crash.reached(point), result]);
    const pids = victim === 'front door' ? [child.pid ?? 0] : await crash.pidsOf(victim, 'victim');
    killAll(pids, 'SIGKILL');
    await crash.release(point);
    tried += 1;
    return await result;
  }

  for (const point of [...pulling, ...unpacking]) {
    for (const victim of victims) {
      it(`${point}: ${victim} is killed`, async () => {
        const { host } = crash;
        const told = await crashIn(['run', '--name', 'victim', image, 'echo', 'out'], point, victim);
        if (victim !== 'front door') expect([0, 125], told.stderr).to.include(told.code);
        if (told.code === 0) expect(told.stdout).to.equal('out\n');
        // whatever is there of the image is whole, and what is missing is got again
        expect(await host.ok(['run', '--rm', image, 'echo', 'whole'])).to.equal('whole');
        await crash.checkRest();
        await host.ok(['rmi', image]);
      });
    }
  }
});
