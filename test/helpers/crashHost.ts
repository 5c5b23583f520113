import { createHash } from 'node:crypto';
import { access, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import type { CrashPoint } from '../../src/base/crashPoint.ts';
import { tracesOf } from './hostTraces.ts';
import { type HrunHost, newHrunHost } from './hrunHost.ts';
import { newNetns } from './netns.ts';

const libexec = resolve(import.meta.dirname, '../../dist/crash/libexec');
/** For what is bound to go to be gone. */
const settlingMs = 30_000;

/** A host whose daemon stands still where it is told to; a container `other` runs beside whatever is tried. */
export interface CrashHost extends AsyncDisposable {
  readonly host: HrunHost;
  /** A directory for binds. */
  readonly shared: string;
  /** Has the daemon stand still the next time it comes to a point. */
  arm(point: CrashPoint): Promise<void>;
  /** Settles when it stands there. */
  reached(point: CrashPoint): Promise<void>;
  /** Lets it go on, or forgets that it was to stand still. */
  release(point: CrashPoint): Promise<void>;
  /** Pids of what takes part in the life of a container. */
  pidsOf(who: Participant, container: string): Promise<readonly number[]>;
  stateOf(container: string): Promise<ContainerState | undefined>;
  /** Removes all but `other`; fails when that was touched, or anything of the rest is left. */
  checkRest(): Promise<void>;
}

export type Participant = 'hrund' | 'keeper' | 'qemu' | 'stand-in' | 'share server';

export interface ContainerState {
  readonly Status: string;
  readonly ExitCode: number;
  readonly Error: string;
  readonly VmPid: number;
  readonly Pid: number;
}

/** @param network whether its containers are in a network, which is looked at too: links, addresses, rules, what is forwarded */
export async function newCrashHost({ network = false } = {}): Promise<CrashHost> {
  await access(libexec);
  await using undo = new AsyncDisposableStack();
  const crashDirectory = `/tmp/hrc-${process.pid}-${Date.now()}`;
  await mkdir(crashDirectory);
  undo.defer(() => rm(crashDirectory, { recursive: true, force: true }));
  const netns = network ? undo.use(await newNetns()) : undefined;
  const host = undo.use(
    await newHrunHost({
      ...(netns && { netns: netns.netns }),
      config: { poolReady: 0, bootTimeoutMs: 300_000 },
      env: { HRUN_LIBEXEC: libexec, HRUN_CRASH_DIR: crashDirectory },
    }),
  );
  const shared = join(host.directory, 'shared');
  await mkdir(shared);
  const file = (point: CrashPoint, what: string) => join(crashDirectory, `${point}.${what}`);

  const stateOf = async (container: string): Promise<ContainerState | undefined> => {
    const { code, stdout } = await host.hrun(['inspect', '-f', '{{json .State}}', container]);
    return code === 0 ? JSON.parse(stdout) : undefined;
  };
  await host.ok(['run', '-d', '--name', 'other', 'busybox', 'sleep', '100000']);
  const other = await stateOf('other');
  const traces = async () => ({
    ...(await tracesOf(host)),
    cgroups: await cgroupsOf(host),
    network: netns === undefined ? [] : rulesOf(netns.snapshot()),
  });
  // nothing else is being made when the count begins
  await host.ok(['template', 'build']);
  const emulators = async () => (await host.processes()).filter(({ command }) => /qemu-system/.test(command));
  while ((await emulators()).length > 1) await sleep(50);
  const before = await traces();

  const pidsOf = async (who: Participant, container: string): Promise<readonly number[]> => {
    if (who === 'hrund') return [await host.daemonPid()];
    // one whose keeper is gone is the child of somebody else
    if (who === 'keeper') return await keepersOf(await host.daemonPid());
    const state = await stateOf(container);
    if (who === 'stand-in') {
      // it shows the command line of what it stands for
      const managers = await host.hrun(['state', container]);
      const { pid = state?.Pid ?? 0 } = managers.code === 0 ? JSON.parse(managers.stdout) : {};
      return pid > 0 ? [pid] : [];
    }
    const known = [state?.VmPid ?? 0].filter((pid) => pid > 0);
    const wanted = { qemu: /qemu-system/, 'share server': /virtiofsd/ }[who];
    const found = (await host.processes())
      .filter(({ pid, command }) => wanted.test(command.split(' ')[0] ?? '') && pid !== other?.VmPid)
      .map(({ pid }) => pid);
    return who === 'qemu' ? [...new Set([...known, ...found])] : found;
  };
  const owned = undo.move();
  return {
    host,
    shared,
    stateOf,
    pidsOf,
    arm: (point) => writeFile(file(point, 'armed'), ''),
    reached: async (point) => {
      while (!(await exists(file(point, 'reached')))) await sleep(5);
    },
    release: async (point) => {
      await rm(file(point, 'armed'), { force: true });
      const reached = file(point, 'reached');
      if (await exists(reached)) await rename(reached, `${reached}.before`);
    },
    checkRest: async () => {
      const names = (await host.ok(['ps', '-a', '--format', '{{.Names}}'])).split('\n');
      const others = names.filter((name) => name !== '' && name !== 'other');
      if (others.length > 0) await host.ok(['rm', '-f', ...others]);
      expect(await stateOf('other')).to.deep.equal(other);
      expect(await host.ok(['exec', 'other', 'echo', 'served'])).to.equal('served');
      const deadline = performance.now() + settlingMs;
      let after = await traces();
      while (JSON.stringify(after) !== JSON.stringify(before) && performance.now() < deadline) {
        await sleep(50);
        after = await traces();
      }
      expect(linesOf(after, before), 'there is more').to.deep.equal([]);
      expect(linesOf(before, after), 'there is less').to.deep.equal([]);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Without the ports of name servers, which each daemon has anew. */
function rulesOf(snapshot: string): readonly string[] {
  return snapshot
    .replaceAll(/(dnat ip6? to \S+):\d+$/gm, '$1:PORT')
    .replaceAll(/th dport \{ [\d, ]+ \}/g, 'th dport { PORTS }')
    .split('\n');
}

/** What is in one and not in the other. */
function linesOf(one: object, other: object): readonly string[] {
  const [lines, others] = [one, other].map((of) => JSON.stringify(of, undefined, 1).split('\n'));
  return (lines ?? []).filter((line) => !others?.includes(line));
}

/** What is left of the cgroups of a daemon's microVMs, without the names that mean nothing. */
async function cgroupsOf({ run }: HrunHost): Promise<readonly string[]> {
  const prefix = createHash('sha256').update(run).digest('hex').slice(0, 8);
  const found: string[] = [];
  for (const hierarchy of await readdir('/sys/fs/cgroup')) {
    const directory = join('/sys/fs/cgroup', hierarchy);
    const parents = (await readdir(directory).catch(() => [])).filter((name) => name.endsWith('.vms'));
    for (const parent of parents) {
      const names = await readdir(join(directory, parent));
      found.push(
        ...names.filter((name) => name.startsWith(`${prefix}-`)).map(() => `${hierarchy}/${parent}`),
      );
    }
  }
  return found.toSorted();
}

async function keepersOf(pid: number): Promise<readonly number[]> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const parent = Number(/^PPid:\s*(\d+)$/m.exec(status)?.[1] ?? 0);
  const command = await readFile(`/proc/${parent}/cmdline`, 'utf8').catch(() => '');
  return command.includes('hrun-keeper') ? [parent] : [];
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** One that has just ended is as good as killed. */
export function killAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}
