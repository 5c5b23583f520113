import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeBundle } from './bundle.ts';
import { busyboxImage, type ManagerHost, packaging } from './managerHost.ts';

/** A manager of its own on a host, with an image of busybox. */
export interface Manager {
  readonly image: string;
  /** The command line of its client, for `ManagerHost.run`. */
  argv(...args: readonly string[]): readonly string[];
  /** A command that must succeed; gives back its trimmed stdout. */
  ok(...args: readonly string[]): Promise<string>;
}

function managerWith(managers: ManagerHost, client: readonly string[], image: string): Manager {
  const argv = (...args: readonly string[]) => [...client, ...args];
  return { image, argv, ok: (...args) => managers.ok(...argv(...args)) };
}

/** Podman has no daemon; disposing removes its containers and its image. */
export async function openPodman(managers: ManagerHost): Promise<Manager & AsyncDisposable> {
  const at = (name: string) => join(managers.directory, 'podman', name);
  const places = ['--root', at('root'), '--runroot', at('run'), '--tmpdir', at('tmp')];
  const options = ['--cgroup-manager=cgroupfs', '--events-backend=file', '--storage-driver=overlay'];
  const podman = managerWith(managers, ['podman', ...places, ...options], 'localhost/busybox:managers');
  const loaded = /^Loaded images?: (\S+)/m.exec(await podman.ok('load', '-q', '-i', busyboxImage))?.[1];
  await podman.ok('tag', loaded ?? '', podman.image);
  return {
    ...podman,
    async [Symbol.asyncDispose]() {
      await podman.ok('rm', '-fa', '-t', '0');
      await podman.ok('rmi', '-fa');
    },
  };
}

/** With the daemon.json that hrun comes with. */
export async function openDocker(managers: ManagerHost): Promise<Manager> {
  const at = (name: string) => join(managers.directory, 'docker', name);
  const address = ['-H', `unix://${at('s')}`];
  // Debian's own: there may be another before it in PATH.
  const docker = managerWith(managers, ['/usr/bin/docker', ...address], 'busybox:managers');
  const places = ['--data-root', at('data'), '--exec-root', at('exec'), '--pidfile', at('pid')];
  const options = ['--config-file', join(packaging, 'daemon.json'), '--storage-driver', 'overlay2'];
  await managers.daemon(['/usr/sbin/dockerd', ...places, ...options, ...address], docker.argv('version'));
  const bundle = await makeBundle(at('bundle'), { args: [] });
  await managers.ok('tar', '-C', join(bundle, 'rootfs'), '-cf', at('rootfs.tar'), '.');
  await docker.ok('import', at('rootfs.tar'), docker.image);
  return docker;
}

/** With hrun's containerd.toml merged into a configuration, which is at `containerd/config.toml`. */
export async function openContainerd(managers: ManagerHost): Promise<Manager> {
  const at = (name: string) => join(managers.directory, 'containerd', name);
  const own = ['version = 2', `root = "${at('root')}"`, `state = "${at('state')}"`];
  const address = ['[grpc]', `  address = "${at('s')}"`];
  const file = await readFile(join(packaging, 'containerd.toml'), 'utf8');
  const merged = [...own, ...address, ...file.split('\n').filter((line) => !line.startsWith('version'))];
  await mkdir(at(''));
  await writeFile(at('config.toml'), merged.join('\n'));
  const client = ['ctr', '-a', at('s')];
  await managers.daemon(['containerd', '-c', at('config.toml')], [...client, 'version']);
  await managers.ok(...client, 'images', 'import', busyboxImage);
  const [image = ''] = (await managers.ok(...client, 'images', 'ls', '-q')).split('\n');
  return managerWith(managers, client, image);
}

/** What makes `ctr run` use a runtime. */
export function ctrRuntime(path: string): readonly string[] {
  return ['--runtime', 'io.containerd.runc.v2', '--runc-binary', path];
}
