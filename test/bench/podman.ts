import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { mustRun } from './processes.ts';

const busybox = resolve(import.meta.dirname, '../../dist/images/busybox.tar');

/** A podman of its own, with the image that hrun has built in. */
export interface Podman extends AsyncDisposable {
  /** Runs `podman ARGS` with that OCI runtime. */
  podman(runtime: 'runc' | 'crun', args: readonly string[]): Promise<string>;
}

export const podmanImage = 'localhost/busybox:bench';

/**
 * Podman keeps its storage below `directory`, and runs, for both runtimes alike, in a mount namespace without the cgroup
 * v2 tree that a hybrid host has beside v1: crun refuses to start there.
 */
export async function openPodman(directory: string): Promise<Podman> {
  await using undo = new AsyncDisposableStack();
  const at = (name: string) => join(directory, name);
  await mkdir(directory, { recursive: true });
  await writeFile(
    at('containers.conf'),
    [
      '[containers]',
      'default_ulimits = ["nofile=20000:20000","nproc=20000:20000"]',
      '[engine]',
      'cgroup_manager = "cgroupfs"',
      'events_logger = "file"',
      '',
    ].join('\n'),
  );
  const script = 'umount /sys/fs/cgroup/unified 2>/dev/null; echo ready; exec sleep infinity';
  const holder = spawn(
    'setpriv',
    ['--pdeathsig', 'KILL', 'unshare', '--mount', '--propagation', 'private', 'sh', '-c', script],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  undo.defer(async () => {
    holder.kill('SIGKILL');
    if (holder.exitCode === null && holder.signalCode === null) await once(holder, 'exit');
  });
  await once(holder.stdout, 'data');
  const env = { ...process.env, CONTAINERS_CONF: at('containers.conf') };
  const places = ['--root', at('root'), '--runroot', at('run'), '--tmpdir', at('tmp')];
  const options = [
    ...places,
    '--cgroup-manager=cgroupfs',
    '--events-backend=file',
    '--storage-driver=overlay',
  ];
  const podman: Podman['podman'] = (runtime, args) =>
    mustRun(
      ['nsenter', `--mount=/proc/${holder.pid}/ns/mnt`, 'podman', ...options, '--runtime', runtime, ...args],
      env,
    );
  undo.defer(async () => {
    await podman('runc', ['rm', '-fa', '-t', '0']);
    await podman('runc', ['rmi', '-fa']);
    await rm(directory, { recursive: true, force: true });
  });
  const loaded = await podman('runc', ['load', '-q', '-i', busybox]);
  const name = /^Loaded images?: (\S+)/m.exec(loaded)?.[1];
  if (name === undefined) throw new Error(`podman loaded nothing: ${loaded}`);
  await podman('runc', ['tag', name, podmanImage]);
  const owned = undo.move();
  return { podman, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
