import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, cp, mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CommandResult, type HrunHost, newHrunHost, resultOf } from './hrunHost.ts';

export const packaging = resolve(import.meta.dirname, '../../packaging/managers');
/** A docker-archive with one image. */
export const busyboxImage = resolve(import.meta.dirname, '../../dist/images/busybox.tar');

/**
 * A host on which hrun is installed where the drop-in files say, `/usr/local/bin/hrun`, and podman's lies in
 * `/etc/containers/containers.conf.d`: in a mount and a network namespace that go on dispose.
 */
export interface ManagerHost extends AsyncDisposable {
  readonly host: HrunHost;
  /** For what managers keep; short enough for their sockets. */
  readonly directory: string;
  /** Runs a program of the machine to its end. */
  run(argv: readonly string[]): Promise<CommandResult>;
  /** One that must succeed; gives back its trimmed stdout. */
  ok(...argv: readonly string[]): Promise<string>;
  /** Starts a daemon, and waits until a command that asks it succeeds. It ends on dispose. */
  daemon(argv: readonly string[], probe: readonly string[]): Promise<void>;
}

/** With an hrun of its own, which is stopped on dispose. */
export async function newManagerHost(): Promise<ManagerHost> {
  await using undo = new AsyncDisposableStack();
  const host = undo.use(await newHrunHost());
  const managers = undo.use(await managerHostOf(host));
  const owned = undo.move();
  return { ...managers, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** With an hrun that is there already, and stays. */
export async function managerHostOf(host: HrunHost): Promise<ManagerHost> {
  await using undo = new AsyncDisposableStack();
  // Not born in a manager's namespaces, as docs/managers.md says.
  await host.ok(['version']);
  const at = (name: string) => join(host.directory, name);
  await mkdir(at('bin'));
  const variables = ['HRUN_ROOT', 'HRUN_RUN', 'HRUN_CONFIG'].map((name) => `${name}='${host.env[name]}'`);
  await writeFile(at('bin/hrun'), `#!/bin/sh\n${variables.join(' ')} exec '${host.path}' "$@"\n`);
  await chmod(at('bin/hrun'), 0o755);
  await cp('/etc/containers', at('containers'), { recursive: true });
  await mkdir(at('containers/containers.conf.d'), { recursive: true });
  await cp(join(packaging, 'containers.conf'), at('containers/containers.conf.d/50-hrun.conf'));
  const script = [
    `mount --bind '${at('bin')}' /usr/local/bin`,
    `mount --bind '${at('containers')}' /etc/containers`,
    'ip link set lo up',
    'echo ready',
    'exec sleep infinity',
  ].join(' && ');
  const unshare = ['unshare', '--net', '--mount', '--propagation', 'private', 'sh', '-c', script];
  const holder = spawn('setpriv', ['--pdeathsig', 'KILL', ...unshare], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  undo.defer(async () => {
    holder.kill('SIGKILL');
    if (holder.exitCode === null && holder.signalCode === null) await once(holder, 'exit');
  });
  await once(holder.stdout, 'data');
  const start = (argv: readonly string[], stdio: 'ignore' | 'pipe') =>
    spawn('nsenter', [`--mount=/proc/${holder.pid}/ns/mnt`, `--net=/proc/${holder.pid}/ns/net`, ...argv], {
      stdio: ['ignore', stdio, stdio],
    });
  const run = async (argv: readonly string[]) => await resultOf(start(argv, 'pipe'));
  const daemons = undo.use(new AsyncDisposableStack());
  const owned = undo.move();
  return {
    host,
    directory: host.directory,
    run,
    async ok(...argv) {
      const { code, stdout, stderr } = await run(argv);
      if (code !== 0) throw new Error(`${argv.join(' ')} gave ${code}: ${stderr}`);
      return stdout.trimEnd();
    },
    async daemon(argv, probe) {
      const child = start(argv, 'ignore');
      daemons.defer(async () => {
        child.kill('SIGTERM');
        if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      });
      while ((await run(probe)).code !== 0) {
        if (child.exitCode !== null) throw new Error(`${argv[0]} ended with ${child.exitCode}`);
        await sleep(50);
      }
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
