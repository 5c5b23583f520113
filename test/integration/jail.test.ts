import { spawn } from 'node:child_process';
import { chmod, copyFile, lstat, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { expect } from 'chai';
import {
  describeEnd,
  type JailedCommand,
  type JailedProcess,
  startJailed,
} from '../../src/vmm/jail/launch.ts';
import type { JailPolicy } from '../../src/vmm/jail/policy.ts';
import { killEmulator } from '../../src/vmm/qemu/emulator.ts';
import { type HrunHost, newHrunHost, resultOf } from '../helpers/hrunHost.ts';
import { jailBreaches, shareServerBreaches } from '../helpers/jailBreaches.ts';
import { testJail } from '../helpers/microvm.ts';
import { temporaryDirectory } from '../helpers/tempDir.ts';

const guest = resolve(import.meta.dirname, '../../dist/guest');
const uids = { first: 2_000_000_000, count: 65_536 };

describe('the jail of QEMU, seen from outside', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost();
    await host.ok(['run', '--rm', 'busybox', 'true']);
  });
  after(() => host[Symbol.asyncDispose]());

  async function start(...flags: string[]): Promise<{ readonly name: string; readonly pid: number }> {
    const name = await host.ok(['run', '-d', ...flags, 'busybox', 'sleep', '1000']);
    return { name, pid: Number(await host.ok(['inspect', '--format', '{{.State.VmPid}}', name])) };
  }

  const promise = () => ({
    uids,
    // its own disks, and what everybody reads: kernel, initramfs and the image's disk
    files: new RegExp(
      `^(?:${guest}/(?:vmlinux|initramfs\\.cpio)|${host.root}/(?:images/disks/.*|containers/[0-9a-f]{64}/scratch\\.raw))$`,
    ),
    fileBytes: 64 * 1024 ** 3,
  });

  const ways: Readonly<Record<string, { readonly ready: number; readonly flags: readonly string[] }>> = {
    booted: { ready: 0, flags: ['--cold'] },
    cloned: { ready: 0, flags: [] },
    'taken from the pool': { ready: 1, flags: [] },
    'that has a share': { ready: 0, flags: ['-v', '/usr/share/doc:/x:ro'] },
  };
  for (const [how, { ready, flags }] of Object.entries(ways)) {
    it(`has no gap around one that was ${how}`, async () => {
      await host.ok(['pool', 'set', '--ready', String(ready)]);
      if (ready > 0) await poolFilled(host, ready);
      const { name, pid } = await start(...flags);
      expect(await jailBreaches(pid, promise())).to.deep.equal([]);
      await host.ok(['rm', '-f', name]);
    });
  }

  it('is a different user for each', async () => {
    await host.ok(['pool', 'set', '--ready', '0']);
    const [first, second] = [await start(), await start()];
    const users = await Promise.all([first, second].map(({ pid }) => userOf(pid)));
    expect(users[0]).not.to.equal(users[1]);
    const told = await host.ok(['inspect', '--format', '{{.HostConfig.Jail.Uid}}', first.name]);
    expect(Number(told)).to.equal(users[0]);
    const cgroups = JSON.parse(
      await host.ok(['inspect', '--format', '{{json .HostConfig.Jail.Cgroups}}', first.name]),
    );
    expect(cgroups).not.to.deep.equal([]);
    await host.ok(['rm', '-f', first.name, second.name]);
    // they go with it, a moment later
    for (const path of cgroups) while ((await stat(path).catch(() => undefined)) !== undefined);
  });

  it('is missed, wall by wall, around a process that has none', async () => {
    const child = spawn('sleep', ['1000'], { stdio: ['ignore', 'ignore', 'ignore', 'inherit'] });
    try {
      const breaches = await jailBreaches(child.pid ?? 0, { ...promise(), fileBytes: 0 });
      expect(breaches).to.include.members([
        'uid',
        'CapEff',
        'CapBnd',
        'no new privileges',
        'seccomp',
        'all denials',
        'init of its namespace',
        ...['mnt', 'pid', 'ipc', 'uts', 'net', 'cgroup'].map((kind) => `${kind} namespace`),
        'cgroup',
        'mounts',
        'files of its root',
        'devices',
        'processes it sees',
        'no core',
        'open files',
        'processes and threads',
        'file size',
        'out of memory',
        'not dumpable',
        'environment',
        'a session of its own',
      ]);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('has its like around the server of a share', async () => {
    const { name } = await start('-v', '/usr/share/doc:/x:ro');
    const standIn = Number(await host.ok(['inspect', '--format', '{{.State.Pid}}', name]));
    const servers = await descendantsOf(standIn);
    expect(servers).not.to.deep.equal([]);
    for (const pid of servers) expect(await shareServerBreaches(pid)).to.deep.equal([]);
    await host.ok(['rm', '-f', name]);
    expect(await shareServerBreaches(process.pid)).to.include.members([
      'capabilities',
      'CapBnd',
      'no new privileges',
      'seccomp',
      ...['mnt', 'pid', 'ipc', 'uts', 'net', 'cgroup'].map((kind) => `${kind} namespace`),
      'mounts',
      'read-only',
      'no core',
      'environment',
    ]);
  });

  it('leaves the daemon a socket and directories that are nobody else’s', async () => {
    for (const path of [
      host.root,
      host.run,
      join(host.run, 'vms'),
      join(host.root, 'cache'),
      join(host.root, 'cache/jail'),
    ]) {
      const found = await lstat(path);
      expect([found.isDirectory(), found.mode & 0o777, found.uid], path).to.deep.equal([true, 0o700, 0]);
    }
    const socket = await lstat(join(host.run, 'hrund.sock'));
    expect([socket.isSocket(), socket.mode & 0o777]).to.deep.equal([true, 0o600]);
  });

  it('has the daemon talk to nobody but its own user, also where the modes would let others in', async () => {
    const socket = join(host.run, 'hrund.sock');
    const modes = { [host.directory]: 0o711, [host.run]: 0o711, [socket]: 0o666 };
    for (const [path, mode] of Object.entries(modes)) await chmod(path, mode);
    const script = `require('node:net').connect(${JSON.stringify(socket)}).on('close', () => {}).pipe(process.stdout)`;
    const child = spawn(process.execPath, ['-e', script], {
      uid: 2_000_090_000,
      gid: 2_000_090_000,
      cwd: '/',
    });
    // it is told so, asked nothing, and the connection is over
    expect((await resultOf(child)).stdout).to.match(/serves uid 0 only, not uid 2000090000$/);
    for (const path of Object.keys(modes)) await chmod(path, path === socket ? 0o600 : 0o700);
  });

  it('has no abstract socket that anybody could reach', async () => {
    const { name, pid } = await start();
    const table = await readFile('/proc/net/unix', 'utf8');
    expect(table.split('\n').filter((line) => / @.*hrun/.test(line))).to.deep.equal([]);
    expect((await readFile(`/proc/${pid}/net/unix`, 'utf8')).trim().split('\n')).to.have.length(1);
    await host.ok(['rm', '-f', name]);
  });
});

describe('the jail of QEMU, where the daemon is not root', () => {
  it('lacks what only root can have, and says so', async () => {
    const uid = 2_000_080_000;
    await using host = await newHrunHost({ uid });
    const name = await host.ok(['run', '-d', 'busybox', 'sleep', '1000']);
    const pid = Number(await host.ok(['inspect', '--format', '{{.State.VmPid}}', name]));
    const files = new RegExp(`^(?:${guest}|${host.root})/`);
    const breaches = await jailBreaches(pid, { uids, files, fileBytes: 64 * 1024 ** 3 });
    expect(breaches).to.deep.equal(['uid', 'cgroup', 'not dumpable']);
    const checks = (await host.ok(['doctor', '--format', 'json']))
      .split('\n')
      .map((line) => JSON.parse(line));
    const shown = checks.filter(({ name: check, status }) => check.startsWith('jail ') && status !== 'ok');
    expect(shown.map(({ name: check, status }) => `${status} ${check}`)).to.deep.equal([
      'warn jail cgroup',
      'warn jail uid',
    ]);
  });
});

describe('the jail of QEMU, where steps are impossible', () => {
  it('is built only if that was allowed, by the configuration or for a container', async () => {
    // a root that has one user only
    await using host = await newHrunHost({ through: ['unshare', '--user', '--map-root-user'] });
    const configure = (config: object) =>
      writeFile(
        join(host.directory, 'config.json'),
        JSON.stringify({ network: 'none', poolReady: 0, ...config }),
      );
    await configure({ allowWeakerJail: ['uid'] });
    expect(await host.ok(['run', '--rm', 'busybox', 'echo', 'fine'])).to.equal('fine');
    const name = await host.ok(['run', '-d', 'busybox', 'sleep', '1000']);
    const inspect = async (field: string) =>
      await host.ok(['inspect', '--format', `{{json ${field}}}`, name]);
    expect(JSON.parse(await inspect('.HostConfig.Jail')))
      .to.include({ Uid: null })
      .and.deep.include({ Weaker: ['uid'] });
    const files = new RegExp(`^(?:${guest}|${host.root})/`);
    const breaches = await jailBreaches(Number(await inspect('.State.VmPid')), {
      uids,
      files,
      fileBytes: 64 * 1024 ** 3,
    });
    expect(breaches).to.deep.equal(['uid', 'not dumpable']);
    await host.ok(['daemon', 'stop', '--force']);

    await configure({});
    const refused = await host.hrun(['run', '--rm', 'busybox', 'true']);
    expect(refused.code).to.equal(125);
    expect(refused.stderr)
      .to.match(/step "uid"/)
      .and.match(/hint: .*allow/);
    const steps = ['--allow-weaker-jail', 'uid'];
    const { code, stderr } = await host.hrun(['run', '--rm', '--timing', ...steps, 'busybox', 'true']);
    expect(code, stderr).to.equal(0);
    expect(stderr).to.contain('launch: cold (its jail may be weaker)');

    // the disk of its image is made in a microVM that goes without as well
    await host.ok(['rm', name]);
    await host.ok(['rmi', 'busybox']);
    expect(await host.hrun(['run', '--rm', 'busybox', 'true'])).to.include({ code: 125 });
    const unpacked = await host.hrun(['run', '--rm', ...steps, 'busybox', 'echo', 'unpacked']);
    expect(unpacked).to.include({ code: 0, stdout: 'unpacked\n' });
  });
});

describe('the launcher of QEMU', () => {
  /** A shell in a tree of its own; what it is asked is told on stderr. */
  async function inTree(
    directory: string,
    script: string,
    change: Partial<JailedCommand> = {},
    policy: Partial<JailPolicy> = {},
  ): ReturnType<typeof startJailed> {
    const tree = join(directory, 'tree');
    for (const name of ['', 'proc', 'dev', 'bin']) {
      await mkdir(join(tree, name), { recursive: true });
      await chmod(join(tree, name), 0o755);
    }
    const shell = join(tree, 'bin/busybox');
    // one that runs cannot be written
    if ((await stat(shell).catch(() => undefined)) === undefined) await copyFile('/usr/bin/busybox', shell);
    const command: JailedCommand = {
      tree,
      program: '/bin/busybox',
      arguments: ['sh', '-c', script],
      descriptors: [],
      environment: {},
      devices: ['/dev/null'],
      cgroups: [],
      fileBytes: 4096,
      ...change,
    };
    return await startJailed(command, { ...testJail, ...policy });
  }

  /** One that runs until it is disposed of. */
  async function loopIn(
    directory: string,
    change?: Partial<JailedCommand>,
    policy?: Partial<JailPolicy>,
  ): Promise<JailedProcess & AsyncDisposable> {
    const started = await inTree(directory, 'while :; do :; done', change, policy);
    return {
      ...started,
      async [Symbol.asyncDispose]() {
        await killEmulator(started.identity);
        await started.exited;
      },
    };
  }

  /** How a script ended, and with which words. */
  const say = async (...parameters: Parameters<typeof inTree>) =>
    describeEnd(await (await inTree(...parameters)).exited);

  it('is the program itself in the end: its exit code and last words are known', async () => {
    await using directory = await temporaryDirectory();
    expect(await say(directory.path, 'echo $$ >&2; exit 7')).to.equal('QEMU ended with code 7: 1');
    await using killed = await loopIn(directory.path);
    process.kill(killed.identity.pid, 'SIGKILL');
    expect(await killed.exited).to.include({ signal: 'SIGKILL' });
  });

  it('lets nothing be written, made or seen', async () => {
    await using directory = await temporaryDirectory();
    await writeFile(join(directory.path, 'secret'), 'x');
    const attempts = [
      'echo x > /new',
      'echo x > /dev/new',
      'busybox mknod /dev/sda b 8 0',
      'busybox mount -o remount,rw /',
      'busybox chroot /proc/1/root/.. /bin/busybox true',
      'busybox ping -c 1 127.0.0.1',
      `busybox cat ${directory.path}/secret`,
      'busybox cat /proc/2/status /proc/kcore /proc/sys/kernel/hostname',
    ];
    const script = attempts
      .map((attempt, index) => `(${attempt}) >/dev/null 2>&1 && echo ${index} >&2`)
      .join('\n');
    const policy = `busybox() { /bin/busybox "$@"; }\n${script}\n/bin/busybox hostname >&2; exit 0`;
    expect(await say(directory.path, policy)).to.equal('QEMU ended with code 0: hrun');
  });

  it('never gives two processes one user', async () => {
    await using directory = await temporaryDirectory();
    const policy = { uids: { first: 2_000_070_000, count: 1 } };
    await using first = await loopIn(directory.path, {}, policy);
    expect(first.jail).to.deep.equal({ uid: 2_000_070_000, weaker: [] });
    const second = await failureOf(inTree(directory.path, 'exit 0', {}, policy));
    expect(second).to.have.property('code', 'JAIL_FAILED');
    expect(second).to.have.property('message').that.includes('2000070000');
    await first[Symbol.asyncDispose]();
    expect(await say(directory.path, 'exit 3', {}, policy)).to.equal('QEMU ended with code 3');
  });

  it('goes on without a step only where that was allowed, and says so', async () => {
    await using directory = await temporaryDirectory();
    const gone = { cgroups: [join(directory.path, 'no-cgroup')] };
    const refused = await failureOf(inTree(directory.path, 'exit 0', gone));
    expect(refused).to.have.property('code', 'JAIL_FAILED');
    expect(refused).to.have.property('message').that.includes('step "cgroup"');
    await using weaker = await loopIn(directory.path, gone, { allowed: ['cgroup'] });
    const { missing, jail } = weaker;
    expect(jail.weaker).to.deep.equal(['cgroup']);
    expect(missing[0]?.why).to.include('no-cgroup');
    const nobody = { uids: { first: 2_000_070_000, count: 1 }, allowed: [] };
    const noTree = await failureOf(inTree(directory.path, 'exit 0', { tree: '/nope' }, nobody));
    expect(noTree).to.have.property('message').that.includes('step "root"');
  });

  it('leaves no descriptor open but those that were meant', async () => {
    await using directory = await temporaryDirectory();
    await using running = await loopIn(directory.path);
    expect(await readdir(`/proc/${running.identity.pid}/fd`)).to.deep.equal(['0', '1', '2']);
  });
});

async function descendantsOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  const children = text.trim().split(' ').filter(Boolean).map(Number);
  return [...children, ...(await Promise.all(children.map(descendantsOf))).flat()];
}

async function userOf(pid: number): Promise<number> {
  return Number(/^Uid:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => error,
  );
}

/** The pool is refilled behind the back of commands: asked until it is full. */
async function poolFilled(host: HrunHost, ready: number): Promise<void> {
  for (;;) {
    const status = JSON.parse(await host.ok(['pool', 'status', '--format', 'json'])) as {
      readonly shelves: readonly { readonly ready: number }[];
    };
    if (status.shelves.length > 0 && status.shelves.every((shelf) => shelf.ready >= ready)) return;
  }
}
