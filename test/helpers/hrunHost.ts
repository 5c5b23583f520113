import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NetNamespace } from '../../src/sys/netNamespace.ts';

export const hrunPath = resolve(import.meta.dirname, '../../dist/hrun');

export interface CommandResult {
  /** Exit code, or 128 + signal number as a shell would say. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  /** Bytes for stdin; without it stdin is /dev/null. */
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly signal?: AbortSignal;
}

/** A busy machine takes its time: a limit, which is only reached when something stays. */
const endingMs = 15_000;

/** An hrun of its own: own root, own daemon. Disposing stops it and fails when anything is left behind. */
export interface HrunHost extends AsyncDisposable {
  readonly directory: string;
  readonly root: string;
  readonly run: string;
  readonly env: NodeJS.ProcessEnv;
  /** Runs a command to its end. */
  hrun(args: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  /** Runs a command that must succeed and gives back its trimmed stdout. */
  ok(args: readonly string[], options?: CommandOptions): Promise<string>;
  start(args: readonly string[], options?: SpawnOptions): ChildProcess;
  /** Another program that calls this host's hrun. */
  startOther(program: string, args: readonly string[], output?: 'pipe' | 'ignore'): ChildProcess;
  readonly path: string;
  daemonPid(): Promise<number>;
  /** Processes whose environment or command line names this host's directories or microVMs. */
  processes(): Promise<{ pid: number; command: string }[]>;
}

export interface HostOptions {
  /** Namespace that commands are called from, and the daemon is started in; without one containers have no network. */
  readonly netns?: NetNamespace;
  /** User, and group, that commands are called as. */
  readonly uid?: number;
  /** A program, with arguments, that calls each command. */
  readonly through?: readonly string[];
  /** Keys of config.json. */
  readonly config?: object;
  readonly env?: Readonly<Record<string, string>>;
}

export async function newHrunHost({
  netns,
  uid,
  through = [],
  config: keys,
  env: more = {},
}: HostOptions = {}): Promise<HrunHost> {
  const directory = await mkdtemp(join(tmpdir(), 'hrt-'));
  const root = join(directory, 'root');
  const run = join(directory, 'run');
  const config = join(directory, 'config.json');
  if (uid !== undefined) await chown(directory, uid, uid);
  const env = { ...process.env, ...more, HRUN_ROOT: root, HRUN_RUN: run, HRUN_CONFIG: config };

  // the tests' own namespace stays as it is
  await writeFile(config, JSON.stringify({ ...(netns === undefined && { network: 'none' }), ...keys }));
  const start = (args: readonly string[], options: SpawnOptions = {}) => {
    const user = uid === undefined ? {} : { uid, gid: uid };
    const [program = hrunPath, ...rest] = [...through, hrunPath, ...args];
    const spawnIt = () => spawn(program, rest, { ...options, ...user, env: { ...env, ...options.env } });
    return netns === undefined ? spawnIt() : netns.run(spawnIt);
  };
  const hrun = async (args: readonly string[], options: CommandOptions = {}) => {
    const child = start(args, {
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      ...(options.env && { env: options.env }),
      ...(options.cwd && { cwd: options.cwd }),
      ...(options.signal && { signal: options.signal, killSignal: 'SIGKILL' as const }),
    });
    return await resultOf(child, options.input);
  };
  // QEMU names no directory, but the microVM that it is
  const vmNames = async () => (await readdir(join(run, 'vms')).catch(() => [])).map((id) => `hrun-${id}`);
  const processes = async () => processesNaming([directory, ...(await vmNames())]);

  return {
    directory,
    root,
    run,
    env,
    hrun,
    start,
    startOther: (program, args, output = 'pipe') =>
      spawn(program, args, { env, stdio: ['ignore', output, output] }),
    path: hrunPath,
    processes,
    ok: async (args, options) => {
      const result = await hrun(args, options);
      if (result.code !== 0) throw new Error(`hrun ${args.join(' ')} gave ${result.code}: ${result.stderr}`);
      return result.stdout.trimEnd();
    },
    daemonPid: async () => {
      const facts: unknown = JSON.parse(await readFile(join(run, 'hrund.json'), 'utf8'));
      return (facts as { pid: number }).pid;
    },
    [Symbol.asyncDispose]: async () => {
      const vms = await vmNames();
      const stopped = await hrun(['daemon', 'stop', '--force']);
      const left = await processesAfter(endingMs, () => processesNaming([directory, ...vms]));
      for (const { pid } of left) kill(pid);
      const mounts = (await readFile('/proc/self/mountinfo', 'utf8'))
        .split('\n')
        .filter((line) => line.includes(directory));
      await rm(directory, { recursive: true, force: true });
      if (stopped.code !== 0) throw new Error(`daemon stop gave ${stopped.code}: ${stopped.stderr}`);
      if (left.length > 0) throw new Error(`left running: ${left.map(({ command }) => command).join('; ')}`);
      if (mounts.length > 0) throw new Error(`left mounted: ${mounts.join('; ')}`);
    },
  };
}

/** Those that are still there after a while: the keeper ends a moment later than the daemon, a killed one has to be reaped. */
async function processesAfter(
  limitMs: number,
  list: HrunHost['processes'],
): ReturnType<HrunHost['processes']> {
  const deadline = performance.now() + limitMs;
  for (let pauseMs = 2; ; pauseMs *= 2) {
    const left = await list();
    if (left.length === 0 || performance.now() > deadline) return left;
    await sleep(pauseMs);
  }
}

/** One that ended since it was found is fine. */
function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Collects the output of a child to its end. */
export async function resultOf(child: ChildProcess, input?: string | Uint8Array): Promise<CommandResult> {
  const closed = once(child, 'close');
  // A command that ends without reading its input is no failure of the test.
  child.stdin?.on('error', () => {}).end(input);
  const [stdout, stderr] = await Promise.all([
    child.stdout ? buffer(child.stdout) : Buffer.alloc(0),
    child.stderr ? buffer(child.stderr) : Buffer.alloc(0),
  ]);
  await closed;
  const code = child.exitCode ?? 128 + (child.signalCode === 'SIGKILL' ? 9 : 15);
  return { code, stdout: stdout.toString(), stderr: stderr.toString() };
}

async function processesNaming(names: readonly string[]): Promise<{ pid: number; command: string }[]> {
  const found: { pid: number; command: string }[] = [];
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    const read = (name: string) => readFile(`/proc/${pid}/${name}`, 'utf8').catch(() => '');
    const [command, environment] = [await read('cmdline'), await read('environ')];
    const working = await readlink(`/proc/${pid}/cwd`).catch(() => '');
    const texts = [command, environment, working];
    if (names.some((name) => texts.some((text) => text.includes(name)))) {
      found.push({ pid, command: command.replaceAll('\0', ' ').trim() });
    }
  }
  return found;
}
