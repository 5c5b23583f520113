import type { ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import type { CrashPoint } from '../../../src/base/crashPoint.ts';
import { makeBundle } from '../../helpers/bundle.ts';
import { type CrashHost, killAll, newCrashHost, type Participant } from '../../helpers/crashHost.ts';
import { type CommandResult, type HrunHost, resultOf } from '../../helpers/hrunHost.ts';
import { report } from '../../helpers/report.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

/** `make chaos` sets it. */
const rounds = Number(process.env.HRUN_CHAOS_ROUNDS ?? 10);
const victims = ['hrund', 'keeper', 'qemu', 'front door'] as const;

/** A command in which a daemon comes to a point, and what it exits with when all goes well. */
interface Deed {
  readonly points: readonly CrashPoint[];
  prepare(crash: CrashHost): Promise<void>;
  readonly args: readonly string[];
  readonly code: number;
  readonly stdout: string;
}

const nothing = async () => {};
const script = 'echo out; echo err >&2; exit 3';
const deeds: readonly Deed[] = [
  {
    points: [
      ...(['create.recorded', 'start.reserved', 'start.booted', 'start.created', 'start.told'] as const),
      ...(['start.started', 'start.recorded', 'end.exited', 'end.killed', 'end.recorded'] as const),
    ],
    prepare: nothing,
    args: ['run', '--name', 'victim', 'busybox', 'sh', '-c', script],
    code: 3,
    stdout: 'out\n',
  },
  {
    points: ['remove.renamed'],
    prepare: async ({ host }) => {
      await host.hrun(['run', '--name', 'victim', 'busybox', 'sh', '-c', script]);
    },
    args: ['rm', 'victim'],
    code: 0,
    stdout: 'victim\n',
  },
  {
    points: ['exec.created', 'exec.exited'],
    prepare: async ({ host }) => {
      await host.ok(['run', '-d', '--name', 'victim', 'busybox', 'sleep', '100000']);
    },
    args: ['exec', 'victim', 'sh', '-c', script],
    code: 3,
    stdout: 'out\n',
  },
  {
    points: ['stop.asked'],
    prepare: async ({ host }) => {
      await host.ok(['run', '-d', '--name', 'victim', 'busybox', 'sleep', '100000']);
    },
    args: ['stop', '-t', '1', 'victim'],
    code: 0,
    stdout: 'victim\n',
  },
];

const outliving: readonly CrashPoint[] = [
  'start.recorded',
  'end.exited',
  'end.killed',
  'end.recorded',
  'exec.exited',
];

/** A command told the truth, the whole of it, or that it does not know. */
function checkTold({ code, stdout, stderr }: CommandResult, deed: Deed): void {
  if (code === deed.code) expect({ code, stdout }).to.deep.equal({ code, stdout: deed.stdout });
  // 125: it was undone or is not known; 137: what it ran in was killed; 1 is the same for verbs of the host
  else expect([1, 125, 137], `${code}: ${stderr}`).to.include(code);
  if (code !== 0 && code !== deed.code && code !== 137) expect(stderr).to.match(/^hrun: /m);
}

/** No container ended well that did not, and what is told as running does. */
async function checkState(
  { stateOf, host }: CrashHost,
  told: CommandResult | undefined,
  deed: Deed,
): Promise<void> {
  const state = await stateOf('victim');
  if (state === undefined) return;
  expect(['created', 'exited', 'running']).to.include(state.Status);
  if (state.Status === 'exited') {
    expect([3, 137, 143]).to.include(state.ExitCode);
    if (deed.args[0] === 'run' && state.ExitCode === 137) expect(state.Error).not.to.equal('');
  }
  if (state.Status === 'running') {
    // it serves, or is just ending
    while ((await host.hrun(['exec', 'victim', 'true'])).code !== 0) {
      if ((await stateOf('victim'))?.Status !== 'running') break;
      await sleep(50);
    }
  }
  const [verb] = deed.args;
  if (told?.code === deed.code && verb === 'run') expect(state).to.include({ Status: 'exited', ExitCode: 3 });
  if (told?.code === deed.code && verb === 'stop') expect(state.Status).to.equal('exited');
  if (told?.code === deed.code && verb === 'rm') expect.fail('it is still there');
}

describe('a crash between two steps', () => {
  let crash: CrashHost;
  let tried = 0;

  before(async () => {
    crash = await newCrashHost({ network: true });
  });
  after(async () => {
    await report('chaos', 'a kill between two steps', { times: tried, lies: 0, leaks: 0 });
    await crash[Symbol.asyncDispose]();
  });

  for (const deed of deeds) {
    for (const point of deed.points) {
      for (const victim of victims) {
        it(`${point}: ${victim} is killed`, async () => {
          await deed.prepare(crash);
          await crash.arm(point);
          const child = crash.host.start(deed.args, { stdio: ['ignore', 'pipe', 'pipe'] });
          const result = resultOf(child);
          await Promise.race([crash.reached(point), result]);
          killAll(await pidsOf(crash, victim, child), 'SIGKILL');
          await crash.release(point);
          const told = await result;
          if (victim !== 'front door') checkTold(told, deed);
          // what runs does not need a daemon, and what has ended is not forgotten with it
          if (victim === 'hrund' && outliving.includes(point)) expect(told.code).to.equal(deed.code);
          await checkState(crash, victim === 'front door' ? undefined : told, deed);
          await crash.checkRest();
          tried += 1;
        });
      }
    }
  }
});

describe("a crash under a manager's container", () => {
  for (const launch of ['cold', 'pooled'] as const) {
    it(`between the end of its microVM and the record of it does not change how it ended, ${launch}`, async () => {
      await using crash = await newCrashHost();
      const { host } = crash;
      await using place = await temporaryDirectory();
      const bundle = await makeBundle(join(place.path, 'bundle'), { args: ['sh', '-c', 'exit 3'] });
      if (launch === 'pooled') await fillPool(host, bundle);
      // its process keeps the stdio of create
      await once(host.start(['create', '--bundle', bundle, 'box'], { stdio: 'ignore' }), 'exit');
      expect(JSON.parse(await host.ok(['state', 'box'])).vm.launch).to.equal(launch);
      await host.ok(['pool', 'set', '--ready', '0']);
      await crash.arm('oci.killed');
      await host.ok(['start', 'box']);
      await crash.reached('oci.killed');
      killAll(await crash.pidsOf('hrund', 'box'), 'SIGKILL');
      await crash.release('oci.killed');
      while (JSON.parse(await host.ok(['state', 'box'])).status !== 'stopped') await sleep(50);
      const [record = ''] = await readdir(join(host.run, 'oci'));
      const state = JSON.parse(await readFile(join(host.run, 'oci', record, 'state.json'), 'utf8'));
      expect(state).to.include({ exitCode: 3, error: '' });
      await host.ok(['delete', 'box']);
      await crash.checkRest();
    });
  }
});

/** Until a microVM waits for a bundle; the pool learns the shape from a container. */
async function fillPool(host: HrunHost, bundle: string): Promise<void> {
  await host.ok(['pool', 'set', '--ready', '1']);
  await host.hrun(['oci', 'run', '--bundle', bundle, 'first']);
  const ready = async () => {
    const { shelves } = JSON.parse(await host.ok(['pool', 'status', '--format', 'json']));
    return shelves.some(
      (shelf: { kind: string; ready: number }) => shelf.kind === 'bundle' && shelf.ready === 1,
    );
  };
  while (!(await ready())) await sleep(50);
}

describe('a crash at any moment', () => {
  const participants = ['hrund', 'keeper', 'qemu', 'stand-in', 'share server', 'front door'] as const;
  const signals = ['SIGKILL', 'SIGKILL', 'SIGTERM', 'SIGSTOP'] as const;

  it(`${rounds} times`, async function () {
    this.timeout(rounds * 60_000 + 120_000);
    await using crash = await newCrashHost();
    const share = [
      'run',
      '--name',
      'victim',
      '-v',
      `${crash.shared}:/d`,
      'busybox',
      'sh',
      '-c',
      `cat /d/* ; ${script}`,
    ];
    const told: Record<string, number> = {};
    for (let round = 0; round < rounds; round += 1) {
      const deed = deeds[randomInt(deeds.length)];
      if (deed === undefined) throw new Error('there are no deeds');
      await deed.prepare(crash);
      const args = deed.args[0] === 'run' && randomInt(2) === 0 ? share : deed.args;
      const child = crash.host.start(args, { stdio: ['ignore', 'pipe', 'pipe'] });
      const result = resultOf(child);
      const [delayMs, victim, signal] = [
        randomInt(1500),
        participants[randomInt(participants.length)] ?? 'hrund',
        signals[randomInt(signals.length)] ?? 'SIGKILL',
      ];
      await sleep(delayMs);
      const pids = await pidsOf(crash, victim, child);
      killAll(pids, signal);
      if (signal === 'SIGSTOP') {
        await sleep(300);
        killAll(pids, 'SIGCONT');
      }
      const what = `round ${round}: ${signal} for ${victim} ${delayMs} ms after ${args.join(' ')}`;
      try {
        const outcome = await result;
        const dead = victim === 'front door' && signal !== 'SIGSTOP';
        if (!dead) checkTold(outcome, deed);
        await checkState(crash, dead ? undefined : outcome, deed);
        await crash.checkRest();
        const kind = outcome.code === deed.code ? 'done' : 'said not to be';
        told[kind] = (told[kind] ?? 0) + 1;
      } catch (cause) {
        throw new Error(`${what}: ${String(cause)}`, { cause });
      }
    }
    await report('chaos', 'a kill at any moment', { times: rounds, ...told, lies: 0, leaks: 0 });
  });
});

async function pidsOf(
  crash: CrashHost,
  victim: Participant | 'front door',
  child: ChildProcess,
): Promise<readonly number[]> {
  if (victim === 'front door') return child.pid === undefined || child.exitCode !== null ? [] : [child.pid];
  return await crash.pidsOf(victim, 'victim');
}
