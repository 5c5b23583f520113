import { execFile } from 'node:child_process';
import { copyFile, link, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Where Debian's busybox-static is. */
const busybox = '/bin/busybox';

export interface BundleOptions {
  readonly args: readonly string[];
  readonly terminal?: boolean;
  /** Merged over the whole document. */
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly mounts?: readonly object[];
  readonly process?: Readonly<Record<string, unknown>>;
  readonly linux?: Readonly<Record<string, unknown>>;
}

const kernelMounts = [
  { destination: '/proc', type: 'proc', source: 'proc' },
  { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=65536k'] },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
];

/** A root file system of busybox and its applets at `directory/rootfs`. */
async function makeRootfs(directory: string): Promise<string> {
  const rootfs = join(directory, 'rootfs');
  for (const name of ['bin', 'dev', 'etc', 'proc', 'sys', 'tmp', 'root']) {
    await mkdir(join(rootfs, name), { recursive: true });
  }
  await copyFile(busybox, join(rootfs, 'bin/busybox'));
  const { stdout } = await run(busybox, ['--list']);
  for (const applet of stdout.trim().split('\n')) {
    if (applet !== 'busybox') await link(join(rootfs, 'bin/busybox'), join(rootfs, 'bin', applet));
  }
  await writeFile(
    join(rootfs, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n',
  );
  return rootfs;
}

/** Writes a config.json beside `rootfs`, with what managers ask for. */
export async function writeConfig(directory: string, options: BundleOptions): Promise<void> {
  const capabilities = ['CAP_KILL', 'CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_SETUID', 'CAP_SETGID'];
  const config = {
    ociVersion: '1.0.2',
    root: { path: 'rootfs' },
    process: {
      terminal: options.terminal === true,
      user: { uid: 0, gid: 0 },
      args: options.args,
      env: ['PATH=/bin:/sbin'],
      cwd: '/',
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      ...options.process,
    },
    mounts: [...kernelMounts, ...(options.mounts ?? [])],
    linux: {
      namespaces: ['pid', 'network', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
      ...options.linux,
    },
    ...options.spec,
  };
  await writeFile(join(directory, 'config.json'), JSON.stringify(config));
}

/** A bundle directory with a root file system of its own. */
export async function makeBundle(directory: string, options: BundleOptions): Promise<string> {
  await mkdir(directory, { recursive: true });
  await makeRootfs(directory);
  await writeConfig(directory, options);
  return directory;
}
