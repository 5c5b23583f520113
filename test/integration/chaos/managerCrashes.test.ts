import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import type { CrashPoint } from '../../../src/base/crashPoint.ts';
import { makeBundle } from '../../helpers/bundle.ts';
import { type CrashHost, killAll, newCrashHost } from '../../helpers/crashHost.ts';
import { type CommandResult, resultOf } from '../../helpers/hrunHost.ts';
import { report } from '../../helpers/report.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

const victims = ['hrund', 'qemu', 'stand-in', 'front door'] as const;
const cgroup = `hrun-chaos-${process.pid}`;

interface Verb {
  readonly points: readonly CrashPoint[];
  /** What was done before. */
  readonly before: readonly ('create' | 'start')[];
  readonly args: readonly string[];
  readonly stdout: string;
  /** The status of a container for which the verb was told to have succeeded, while nobody was killed but the daemon. */
  readonly status: 'created' | 'running' | undefined;
}

const verbs: readonly Verb[] = [
  {
    points: [
      ...(['oci.create.recorded', 'oci.create.placed', 'oci.create.booted'] as const),
      ...(['oci.create.made', 'oci.create.told'] as const),
    ],
    before: [],
    args: ['create', '--bundle', 'BUNDLE', 'box'],
    stdout: '',
    status: 'created',
  },
  {
    points: ['oci.start.started'],
    before: ['create'],
    args: ['start', 'box'],
    stdout: '',
    status: 'running',
  },
  {
    points: ['oci.exec.started', 'oci.exec.recorded', 'oci.exec.exited'],
    before: ['create', 'start'],
    args: ['exec', 'box', 'echo', 'in'],
    stdout: 'in\n',
    status: 'running',
  },
  {
    points: ['oci.delete.ended', 'oci.delete.renamed'],
    before: ['create', 'start'],
    args: ['delete', '--force', 'box'],
    stdout: '',
    status: undefined,
  },
];

describe("a crash in a manager's call", () => {
  let crash: CrashHost;
  let bundle: string;
  let place: Awaited<ReturnType<typeof temporaryDirectory>>;
  let tried = 0;

  before(async () => {
    crash = await newCrashHost();
    place = await temporaryDirectory();
    bundle = await makeBundle(join(place.path, 'bundle'), {
      args: ['sleep', '100000'],
      linux: { cgroupsPath: `/${cgroup}/box` },
    });
    // what is made once is made first
    await call(['create', '--bundle', bundle, 'first']);
    await crash.host.ok(['delete', '--force', 'first']);
  });
  after(async () => {
    await report('chaos', "a kill in a manager's call", { times: tried, lies: 0, leaks: 0 });
    await crash[Symbol.asyncDispose]();
    await place[Symbol.asyncDispose]();
  });

  /** A process of `create` keeps its stdio, and that of `exec` is the caller's. */
  async function call(args: readonly string[]): Promise<number> {
    const child = crash.host.start(args, { stdio: 'ignore' });
    await once(child, 'exit');
    return child.exitCode ?? 128;
  }

  /** Undefined for one that there is not. */
  async function statusOf(): Promise<string | undefined> {
    const { code, stdout, stderr } = await crash.host.hrun(['state', 'box']);
    if (code === 0) return JSON.parse(stdout).status;
    expect(stderr).to.contain('does not exist');
    return undefined;
  }

  for (const verb of verbs) {
    for (const point of verb.points) {
      for (const victim of victims) {
        it(`${point}: ${victim} is killed`, async () => {
          for (const earlier of verb.before) {
            const args = earlier === 'create' ? ['create', '--bundle', bundle, 'box'] : ['start', 'box'];
            expect(await call(args)).to.equal(0);
          }
          const args = verb.args.map((word) => (word === 'BUNDLE' ? bundle : word));
          const isExec = verb.args[0] === 'exec';
          await crash.arm(point);
          const child = crash.host.start(args, { stdio: isExec ? ['ignore', 'pipe', 'pipe'] : 'ignore' });
          const ended: Promise<CommandResult> = isExec
            ? resultOf(child)
            : once(child, 'exit').then(() => ({ code: child.exitCode ?? 137, stdout: '', stderr: '' }));
          await Promise.race([crash.reached(point), ended]);
          killAll(victim === 'front door' ? [child.pid ?? 0] : await crash.pidsOf(victim, 'box'), 'SIGKILL');
          await crash.release(point);
          const told = await ended;
          tried += 1;
          if (told.code === 0) expect(told.stdout).to.equal(verb.stdout);
          if (victim === 'hrund' && told.code === 0) expect(await statusOf()).to.equal(verb.status);
          // what has lost its microVM, or the process that stands for it, does not run
          if (verb.status === 'running' && !isExec && ['qemu', 'stand-in'].includes(victim)) {
            while ((await statusOf()) !== 'stopped') await sleep(50);
          }
          // create is whole or has left nothing; but for its very end, when the container was there and could not be told
          if (verb.args[0] === 'create' && told.code !== 0 && point !== 'oci.create.told') {
            while ((await statusOf()) !== undefined) await sleep(50);
          }
          await crash.host.hrun(['delete', '--force', 'box']);
          while ((await statusOf()) !== undefined) await sleep(50);
          await crash.checkRest();
          for (const hierarchy of await readdir('/sys/fs/cgroup')) {
            const left = await readdir(join('/sys/fs/cgroup', hierarchy, cgroup)).catch(() => []);
            expect(left.filter((name) => name === 'box')).to.deep.equal([]);
          }
        });
      }
    }
  }
});
