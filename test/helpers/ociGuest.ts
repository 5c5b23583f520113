import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AgentClient } from '../../src/agent/client.ts';
import { backoff } from '../../src/base/backoff.ts';
import { guestContainerOf, hostPlanOf } from '../../src/oci/containerPlan.ts';
import { parseProcessSpec } from '../../src/oci/processSpec.ts';
import { parseRuntimeSpec } from '../../src/oci/runtimeSpec.ts';
import { guestProcessOf } from '../../src/oci/specProcess.ts';
import { followProcess, type Outcome, personalization, soon } from './agentGuest.ts';
import { bootTestVm, connectTestAgent } from './microvm.ts';
import { temporaryDirectory } from './tempDir.ts';

export type Json = Record<string, unknown>;

const shareTag = 'share';
const capabilityNames = [
  ...[
    'CHOWN',
    'DAC_OVERRIDE',
    'FSETID',
    'FOWNER',
    'MKNOD',
    'NET_RAW',
    'SETGID',
    'SETUID',
    'SETFCAP',
    'SETPCAP',
  ],
  ...['NET_BIND_SERVICE', 'SYS_CHROOT', 'KILL', 'AUDIT_WRITE'],
].map((name) => `CAP_${name}`);
export const capabilities = {
  bounding: capabilityNames,
  effective: capabilityNames,
  permitted: capabilityNames,
};
export const usualMounts = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755'] },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'nodev', 'mode=1777'] },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['nosuid', 'noexec', 'ro'] },
];
export const usualNamespaces = ['pid', 'network', 'mount', 'ipc', 'uts'].map((type) => ({ type }));

/** A config.json as `runc spec` would write it, running a script. */
export function config(script: string | readonly string[], change: Json = {}): Json {
  const { process, linux, ...rest } = change;
  const args = typeof script === 'string' ? ['sh', '-c', script] : script;
  return {
    ociVersion: '1.2.0',
    root: { path: 'rootfs' },
    process: {
      user: { uid: 0, gid: 0 },
      args,
      cwd: '/',
      env: ['PATH=/bin'],
      capabilities,
      ...(process as Json),
    },
    mounts: usualMounts,
    linux: { namespaces: usualNamespaces, ...(linux as Json) },
    ...rest,
  };
}

export interface OciContainer extends AsyncDisposable {
  readonly id: string;
  /** Output and exit of one process. */
  follow(processId?: string, input?: string): Promise<Outcome>;
  /** Runs a further process to its end. */
  exec(script: string | readonly string[], change?: Json): Promise<Outcome>;
}

/** A microVM whose containers have roots in a share, several at a time, and are described by config.json documents. */
export interface OciGuest extends AsyncDisposable {
  readonly client: AgentClient;
  /** The directory of the host that is shared; a root of a container is `roots/NAME` in it. */
  readonly directory: string;
  create(document: Json, root?: string): Promise<OciContainer>;
  start(document: Json, root?: string): Promise<OciContainer>;
  /** Runs one container to its end. */
  run(document: Json, root?: string): Promise<Outcome>;
}

export async function openOciGuest(): Promise<OciGuest> {
  await using undo = new AsyncDisposableStack();
  const { path } = undo.use(await temporaryDirectory());
  const directory = join(path, 'shown');
  for (const root of ['a', 'b']) await makeRoot(join(directory, 'roots', root));
  const socketPath = await startServer(path, directory);
  const guest = undo.use(await bootTestVm({ share: { tag: shareTag, socketPath } }));
  const { client } = undo.use(await connectTestAgent(guest.vm));
  await client.personalize(personalization(), soon());
  let count = 0;
  const create: OciGuest['create'] = async (document, root = 'a') => {
    count += 1;
    const id = `c${count}`;
    await client.createContainer(request(document, id, root), soon());
    let execs = 0;
    const follow: OciContainer['follow'] = (processId = 'init', input) =>
      followProcess(client, id, processId, input);
    return {
      id,
      follow,
      exec: async (script, change) => {
        execs += 1;
        const processId = `e${execs}`;
        await client.exec({ containerId: id, processId, process: execProcess(script, change) }, soon());
        const outcome = await follow(processId);
        await client.releaseProcess({ containerId: id, processId }, soon());
        return outcome;
      },
      [Symbol.asyncDispose]: () => client.deleteContainer(id, soon()),
    };
  };
  const start: OciGuest['start'] = async (document, root) => {
    await using undoStart = new AsyncDisposableStack();
    const container = undoStart.use(await create(document, root));
    await client.startContainer(container.id, soon());
    undoStart.move();
    return container;
  };
  const owned = undo.move();
  return {
    client,
    directory,
    create,
    start,
    run: async (document, root) => {
      await using container = await start(document, root);
      return await container.follow();
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The agent's process of an exec, which inherits nothing of the container's own. */
export function execProcess(script: string | readonly string[], change: Json = {}) {
  const { process } = config(script, { process: change });
  const spec = parseProcessSpec(Buffer.from(JSON.stringify(process)));
  return guestProcessOf(spec, { stdinOpen: false, exec: { defaultAffinity: undefined } });
}

function request(document: Json, containerId: string, root: string) {
  const spec = parseRuntimeSpec(Buffer.from(JSON.stringify(document)));
  hostPlanOf(spec);
  return guestContainerOf(spec, {
    containerId,
    name: containerId,
    bundle: '/bundle',
    root: { tag: shareTag, path: `roots/${root}` },
    bindSource: ({ source }) => ({ tag: shareTag, path: source }),
    // in these tests a namespace's path is the id of the container
    joinedContainer: (path) => path,
    stdinOpen: false,
  });
}

async function makeRoot(root: string): Promise<void> {
  for (const name of ['bin', 'etc', 'tmp']) await mkdir(join(root, name), { recursive: true });
  await copyFile('/usr/bin/busybox', join(root, 'bin/busybox'));
  const applets = [
    ...[
      'sh',
      'cat',
      'chmod',
      'dd',
      'echo',
      'grep',
      'head',
      'hostname',
      'id',
      'ionice',
      'kill',
      'ln',
      'ls',
      'mkdir',
    ],
    ...[
      'mount',
      'nproc',
      'ps',
      'pwd',
      'readlink',
      'sed',
      'seq',
      'sleep',
      'stat',
      'tail',
      'taskset',
      'test',
      'touch',
    ],
    ...['true', 'tty', 'umount', 'uname', 'wc', 'tr', 'cut', 'date', 'mknod', 'unshare', 'printf', 'env'],
  ];
  for (const applet of applets) await symlink('busybox', join(root, 'bin', applet));
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/srv:/bin/sh\n');
  await writeFile(join(root, 'etc/group'), 'root:x:0:\nweb:x:33:\n');
}

/** It goes with its only client. */
async function startServer(directory: string, source: string): Promise<string> {
  const socketPath = join(directory, 'share.sock');
  const options = [`--socket-path=${socketPath}`, '-o', `source=${source},xattr`];
  const server = spawn('/usr/lib/qemu/virtiofsd', options, { stdio: 'ignore' });
  const ended = once(server, 'exit').then(() => Promise.reject(new Error('the share server ended')));
  ended.catch(() => {});
  const listens = async () => {
    for (const pauses = backoff(1, 50); !(await readdir(directory)).includes('share.sock'); ) {
      await pauses.pause(soon());
    }
  };
  await Promise.race([listens(), ended]);
  return socketPath;
}
