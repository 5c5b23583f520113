import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  chmod,
  copyFile,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { listenUnix } from '../../src/sys/unixListener.ts';
import { type BundleOptions, makeBundle, writeConfig } from '../helpers/bundle.ts';
import { type HrunHost, hrunPath, newHrunHost, resultOf } from '../helpers/hrunHost.ts';
import { temporaryDirectory } from '../helpers/tempDir.ts';

/** Waits for something that is bound to happen; the suite's time-out is the limit. */
async function until<T>(probe: () => Promise<T | undefined | false>): Promise<T> {
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== false) return found;
    await sleep(20);
  }
}

// of this run: another may be under way beside it
const cgroup = `hrun-oci-test-${process.pid}`;
/** HRUN_STDIN_ROUNDS=500 is for finding a race that comes up seldom. */
const stdinRounds = Number(process.env.HRUN_STDIN_ROUNDS ?? 50);

/** Each case in a microVM that is booted for it, and in one that waited. */
for (const launch of ['cold', 'pooled'] as const) {
  describe(`in runc's place, ${launch}`, () => {
    let host: HrunHost;
    let bundle: string;

    before(async () => {
      host = await newHrunHost({ config: { poolReady: 0, poolRefillPauseMs: 0 } });
      bundle = await makeBundle(join(host.directory, 'bundle'), { args: ['true'] });
    });
    beforeEach(() => getReady());
    after(() => host[Symbol.asyncDispose]());
    afterEach(async () => {
      for (const { id } of await list()) await host.ok(['delete', '--force', id]);
      expect(await leftovers()).to.deep.equal([]);
    });

    async function list(): Promise<{ id: string; status: string; pid: number }[]> {
      return JSON.parse(await host.ok(['list', '--format', 'json'])) ?? [];
    }

    /** Until a microVM waits. */
    async function getReady(): Promise<void> {
      if (launch === 'cold') return;
      await host.ok(['pool', 'set', '--ready', '1']);
      // The first container of its shape makes it known to the pool.
      if ((await waiting()) === undefined) {
        await config({ args: ['true'] });
        expect(await runOci()).to.include({ code: 0 });
      }
      await until(async () => (await waiting()) === 1);
    }

    /** MicroVMs that wait, of the shape that was used first. */
    async function waiting(): Promise<number | undefined> {
      return JSON.parse(await host.ok(['pool', 'status', '--format', 'json'])).shelves[0]?.ready;
    }

    /** What no container may leave: directories of microVMs, records, cgroups. */
    async function leftovers(): Promise<string[]> {
      await host.ok(['pool', 'set', '--ready', '0']);
      const found = [
        ...(await readdir(join(host.run, 'vms'))),
        ...(await readdir(join(host.run, 'oci'))),
        ...(await cgroupsLeft()),
      ];
      return found;
    }

    async function cgroupsLeft(): Promise<string[]> {
      const places = ['memory', 'pids', '.'].map((name) => join('/sys/fs/cgroup', name, cgroup));
      const found = await Promise.all(
        places.map((path) => readdir(path, { withFileTypes: true }).catch(() => [])),
      );
      return found.flat().flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
    }

    const config = (options: BundleOptions) =>
      writeConfig(bundle, {
        ...options,
        linux: { cgroupsPath: `/${cgroup}/c`, ...options.linux },
      });
    /** A stand-in keeps the descriptors that `create` was called with: a pipe would not end before it. */
    const create = async (id: string, ...args: string[]) => {
      const said = join(host.directory, 'said');
      const command = ['create', '--bundle', bundle, '--pid-file', join(host.directory, 'pid'), ...args, id];
      await using file = await open(said, 'w');
      const child = host.start(command, { stdio: ['ignore', file.fd, file.fd] });
      const { code } = await resultOf(child);
      return { code, stderr: await readFile(said, 'utf8') };
    };
    const created = async (id: string, options: BundleOptions) => {
      await config(options);
      const { code, stderr } = await create(id);
      expect([code, stderr]).to.deep.equal([0, '']);
      return Number(await readFile(join(host.directory, 'pid'), 'utf8'));
    };
    const running = async (id: string, options: BundleOptions) => {
      const pid = await created(id, options);
      await host.ok(['oci', 'start', id]);
      return pid;
    };
    const state = async (id: string) => JSON.parse(await host.ok(['state', id]));
    const stopped = (id: string) => until(async () => (await state(id)).status === 'stopped');
    const runOci = (...args: string[]) => host.hrun(['oci', 'run', '--bundle', bundle, ...args, 'c']);

    it('runs a bundle in the foreground, with its stdio and exit code', async () => {
      await config({ args: ['sh', '-c', 'cat; echo err >&2; exit 7'] });
      const result = await host.hrun(['oci', 'run', '--bundle', bundle, 'c'], { input: 'in\n' });
      expect(result).to.deep.equal({ code: 7, stdout: 'in\n', stderr: 'err\n' });
      expect(await list()).to.deep.equal([]);
    });

    it('goes through the states of the spec, and says no in the words of runc', async () => {
      const pid = await created('c', { args: ['sleep', '1000'] });
      expect(await state('c')).to.include({ id: 'c', status: 'created', pid, bundle });
      expect(await host.ok(['oci', 'exec', 'c', 'echo', 'already'])).to.equal('already');
      expect((await create('c')).stderr).to.contain('container with given ID already exists');
      await host.ok(['oci', 'start', 'c']);
      expect((await state('c')).status).to.equal('running');
      expect((await state('c')).vm).to.include({ sandbox: 'c' });
      const again = await host.hrun(['oci', 'start', 'c']);
      expect([again.code, again.stderr]).to.satisfy(
        ([code, text]: [number, string]) =>
          code === 1 && text.includes('cannot start an already running container'),
      );
      expect((await host.hrun(['delete', 'c'])).stderr).to.contain('that is not stopped: running');
      expect((await host.hrun(['resume', 'c'])).stderr).to.contain('container not paused');
      expect(JSON.parse(await host.ok(['oci', 'ps', '--format', 'json', 'c']))).to.deep.equal([pid]);
      expect(await host.ok(['oci', 'ps', 'c'])).to.contain('sleep 1000');
      await host.ok(['oci', 'kill', 'c', '0']);
      await host.ok(['oci', 'kill', 'c', 'KILL']);
      await stopped('c');
      expect(await state('c')).to.include({ pid: 0 });
      expect((await host.hrun(['oci', 'kill', 'c', '0'])).stderr).to.contain('container not running');
      await host.ok(['oci', 'kill', '--all', 'c', '9']);
      expect(await host.ok(['oci', 'ps', '--format', 'json', 'c'])).to.equal('null');
      expect((await host.hrun(['oci', 'events', 'c'])).stderr).to.contain(
        'container with id c is not running',
      );
      expect((await host.hrun(['oci', 'start', 'c'])).stderr).to.contain(
        'cannot start a container that has stopped',
      );
      expect((await host.hrun(['oci', 'exec', 'c', 'true'])).stderr).to.contain(
        'cannot exec in a stopped container',
      );
      await host.ok(['delete', 'c']);
      expect((await host.hrun(['state', 'c'])).stderr).to.contain('container does not exist');
    });

    it('keeps the config.json of create', async () => {
      await created('c', { args: ['sh', '-c', 'exit 3'] });
      await config({ args: ['sh', '-c', 'exit 4'] });
      await host.ok(['oci', 'start', 'c']);
      await stopped('c');
      const record = await readdir(join(host.run, 'oci'));
      const text = await readFile(join(host.run, 'oci', record[0] ?? '', 'state.json'), 'utf8');
      expect(JSON.parse(text)).to.include({ exitCode: 3 });
    });

    it('fails create for what a user got wrong, and leaves nothing', async () => {
      const cases: readonly [BundleOptions, string | RegExp][] = [
        [{ args: ['/nope'] }, 'exec: "/nope": stat /nope: no such file or directory'],
        [{ args: ['nope'] }, 'executable file not found in $PATH'],
        [{ args: ['/etc/passwd'] }, 'permission denied'],
        [{ args: ['true'], process: { cwd: '/etc/passwd' } }, '/etc/passwd'],
        [{ args: ['true'], terminal: true }, 'cannot allocate tty if runc will detach'],
        [{ args: [] }, 'args must not be empty'],
        [{ args: ['true'], spec: { root: { path: 'gone' } } }, 'does not exist'],
        [{ args: ['true'], spec: { root: { path: 'config.json' } } }, 'not a directory'],
        [{ args: ['true'], spec: { root: { path: '/dev/null' } } }, 'not a directory'],
        [{ args: ['true'], spec: { process: 7 } }, 'process'],
        [
          {
            args: ['true'],
            mounts: [{ destination: '/x', type: 'bind', source: '/nope', options: ['bind'] }],
          },
          '/nope',
        ],
        [
          {
            args: ['true'],
            mounts: [{ destination: '/x', type: 'bind', source: '/dev/null', options: ['bind'] }],
          },
          '/dev/null',
        ],
        [
          { args: ['true'], linux: { namespaces: [{ type: 'pid' }, { type: 'mount' }, { type: 'ipc' }] } },
          'network',
        ],
        [{ args: ['true'], linux: { namespaces: [{ type: 'pid', path: '/proc/1/ns/pid' }] } }, 'namespace'],
      ];
      for (const [options, text] of cases) {
        await config(options);
        const { code, stderr } = await create('c');
        expect(code, JSON.stringify(options)).to.equal(1);
        if (typeof text === 'string') expect(stderr).to.contain(text.replaceAll('"', '\\"'));
        else expect(stderr).to.match(text);
        expect(await leftovers(), stderr).to.deep.equal([]);
      }
    });

    it('says clearly what is wrong with a hostile config.json', async () => {
      const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
      for (const text of [
        '',
        '{',
        'null',
        '[]',
        '"x"',
        deep,
        ' '.repeat(11 * 1024 * 1024),
        '{"ociVersion":"x"}',
      ]) {
        await writeFile(join(bundle, 'config.json'), text);
        const { code, stderr } = await create('c');
        expect([code, stderr.includes('config.json')], stderr.slice(0, 200)).to.deep.equal([1, true]);
        expect(stderr.length).to.be.lessThan(2000);
      }
      const nowhere = await host.hrun(['create', '--bundle', join(host.directory, 'nope'), 'c']);
      expect(nowhere.stderr).to.contain('no such file or directory');
      const empty = join(host.directory, 'empty');
      await mkdir(empty);
      expect((await host.hrun(['create', '--bundle', empty, 'c'])).stderr).to.contain('config.json');
      await config({ args: ['true'] });
      const pidFile = await host.hrun(['create', '--bundle', bundle, '--pid-file', '/nope/pid', 'c']);
      expect([pidFile.code, pidFile.stderr.includes('/nope')]).to.deep.equal([1, true]);
    });

    it('gives up a create whose front door is killed, at whatever step', async () => {
      for (const delayMs of [0, 5, 20, 60, 150, 400]) {
        await getReady();
        await config({ args: ['sleep', '1000'] });
        const child = host.start(['create', '--bundle', bundle, 'c'], { stdio: 'ignore' });
        const ended = once(child, 'exit');
        await sleep(delayMs);
        child.kill('SIGKILL');
        await ended;
        await until(async () => {
          for (const { id } of await list()) await host.hrun(['delete', '--force', id]);
          return (await leftovers()).length === 0;
        });
      }
    });

    it('is stopped with 137 when its pid is killed, and passes SIGTERM on', async () => {
      const pid = await running('c', { args: ['sleep', '1000'] });
      process.kill(pid, 'SIGKILL');
      await stopped('c');
      await host.ok(['delete', 'c']);
      const script = 'trap "echo got it; exit 5" TERM; echo ready; while :; do sleep 0.05; done';
      await config({ args: ['sh', '-c', script] });
      const child = host.start(['oci', 'run', '--bundle', bundle, 'c'], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const result = resultOf(child);
      await once(child.stdout as NodeJS.ReadableStream, 'readable');
      const { pid: standIn } = await state('c');
      process.kill(standIn, 'SIGTERM');
      expect(await result).to.include({ code: 5, stdout: 'ready\ngot it\n' });
    });

    it('ends a created container by a signal', async () => {
      await created('c', { args: ['sleep', '1000'] });
      await host.ok(['oci', 'kill', 'c', 'TERM']);
      expect((await state('c')).status).to.equal('stopped');
    });

    it('passes 100 MB through, whole and in order', async () => {
      const bytes = 100_000_000;
      const script = `yes 0123456789abcde | head -c ${bytes}`;
      await config({ args: ['sh', '-c', script] });
      const child = host.start(['oci', 'run', '--bundle', bundle, 'c'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const hash = createHash('sha256');
      let length = 0;
      for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
        hash.update(chunk);
        length += chunk.length;
      }
      expect(length).to.equal(bytes);
      const expected = createHash('sha256').update('0123456789abcde\n'.repeat(bytes / 16));
      expect(hash.digest('hex')).to.equal(expected.digest('hex'));
    });

    it('shares files both ways: read-only by the host, single files, nested, with their owners', async () => {
      const data = join(host.directory, 'data');
      await mkdir(join(data, 'sub'), { recursive: true });
      await writeFile(join(data, 'file'), 'of the host\n');
      const single = join(host.directory, 'single');
      await writeFile(single, 'single\n');
      const bind = (destination: string, source: string, ...options: string[]) => ({
        destination,
        type: 'bind',
        source,
        options: ['rbind', ...options],
      });
      await config({
        args: [
          'sh',
          '-c',
          'cat /rw/file /etc/single /link/file; echo new > /rw/new; chmod 640 /rw/new; chown 12:34 /rw/new; echo x > /ro/x; echo y > /etc/single; echo up > /made; exit 0',
        ],
        mounts: [
          bind('/rw', data),
          bind('/ro', data, 'ro'),
          bind('/etc/single', single, 'ro'),
          bind('/link', data),
        ],
      });
      await symlink('/tmp', join(bundle, 'rootfs/link'));
      const { code, stdout, stderr } = await runOci();
      expect([code, stdout]).to.deep.equal([0, 'of the host\nsingle\nof the host\n']);
      expect(stderr.match(/Read-only/g)).to.have.length(2);
      const found = await stat(join(data, 'new'));
      expect([found.uid, found.gid, found.mode & 0o777]).to.deep.equal([12, 34, 0o640]);
      expect(await readFile(join(bundle, 'rootfs/made'), 'utf8')).to.equal('up\n');
    });

    it('shows the owners of a bind as they are mapped, both ways', async () => {
      const data = join(host.directory, 'mapped');
      await mkdir(data);
      await writeFile(join(data, 'file'), 'x');
      const ranges = (hostID: number) => [{ containerID: 0, hostID, size: 100 }];
      const mappings = { uidMappings: ranges(1000), gidMappings: ranges(2000) };
      const bind = { destination: '/d', type: 'bind', source: data, options: ['rbind', 'idmap'] };
      const script = 'stat -c "%u %g" /d/file; chown 1007:2008 /d/file; stat -c "%u %g" /d/file';
      await config({ args: ['sh', '-c', script], mounts: [{ ...bind, ...mappings }] });
      expect(await runOci()).to.deep.equal({ code: 0, stdout: '1000 2000\n1007 2008\n', stderr: '' });
      const given = await stat(join(data, 'file'));
      expect([given.uid, given.gid]).to.deep.equal([7, 8]);
      // Without ranges of its own, those of the user namespace: root of the container is who owns the files on disk.
      const namespaces = ['pid', 'network', 'ipc', 'uts', 'mount', 'user'].map((type) => ({ type }));
      await config({
        args: ['sh', '-c', 'echo y > /d/new; stat -c "%u %g" /d/new /d/file'],
        mounts: [bind],
        linux: { namespaces, uidMappings: ranges(1000), gidMappings: ranges(2000) },
      });
      expect(await runOci()).to.deep.equal({ code: 0, stdout: '0 0\n7 8\n', stderr: '' });
      const made = await stat(join(data, 'new'));
      expect([made.uid, made.gid]).to.deep.equal([0, 0]);
      // The kernel says of its own file systems which cannot do it.
      await config({ args: ['true'], mounts: [{ ...bind, ...mappings, source: '/sys/kernel' }] });
      const { code, stderr } = await runOci();
      expect([code, stderr.includes('cannot map the owners (idmap) of /sys/kernel')], stderr).to.deep.equal([
        1,
        true,
      ]);
    });

    it('runs one more process, in the foreground and detached, each with a stand-in', async () => {
      const pid = await running('c', { args: ['sleep', '1000'] });
      const result = await host.hrun(
        ['oci', 'exec', '--cwd', '/tmp', '--env', 'A=b', 'c', 'sh', '-c', 'cat; pwd; echo $A; exit 9'],
        {
          input: 'in\n',
        },
      );
      expect(result).to.include({ code: 9, stdout: 'in\n/tmp\nb\n' });
      const processFile = join(host.directory, 'process.json');
      const spec = { args: ['sleep', '1000'], cwd: '/', env: ['PATH=/bin'], user: { uid: 0, gid: 0 } };
      await writeFile(processFile, JSON.stringify(spec));
      const execPid = join(host.directory, 'exec-pid');
      const detached = ['exec', '--process', processFile, '--detach', '--pid-file', execPid, 'c'];
      expect(await resultOf(host.start(detached, { stdio: 'ignore' }))).to.include({ code: 0 });
      const exec = Number(await readFile(execPid, 'utf8'));
      expect(JSON.parse(await host.ok(['oci', 'ps', '--format', 'json', 'c']))).to.deep.equal([pid, exec]);
      for (const name of ['net', 'pid', 'mnt']) {
        expect(await readlink(`/proc/${exec}/ns/${name}`)).to.equal(
          await readlink(`/proc/${pid}/ns/${name}`),
        );
      }
      process.kill(exec, 'SIGKILL');
      await until(async () => JSON.parse(await host.ok(['oci', 'ps', '--format', 'json', 'c'])).length === 1);
      const missing = await host.hrun(['oci', 'exec', 'c', '/nope']);
      expect([missing.code, missing.stderr.includes('exec failed: ')]).to.deep.equal([255, true]);
    });

    it('does not mind stdin that nobody reads', async () => {
      await running('c', { args: ['sleep', '1000'] });
      for (let round = 0; round < stdinRounds; round += 1) {
        const result = await host.hrun(['oci', 'exec', 'c', 'true'], { input: 'x'.repeat(200_000) });
        expect(result, `round ${round}`).to.deep.equal({ code: 0, stdout: '', stderr: '' });
      }
    });

    it('tells two managers with equal roots in different namespaces apart', async () => {
      await config({ args: ['sleep', '1000'] });
      const root = join(host.directory, 'manager');
      await mkdir(root);
      const inside = (script: string) =>
        resultOf(
          host.startOther('unshare', ['-n', '-m', 'sh', '-c', `mount -t tmpfs t "${root}" && ${script}`]),
        );
      const hrun = `${host.path} --root ${root}`;
      const first = inside(
        `${hrun} create --bundle ${bundle} c > /dev/null 2>&1 && ${hrun} state c && ${hrun} delete c`,
      );
      const second = inside(
        `${hrun} create --bundle ${bundle} c > /dev/null 2>&1 && ${hrun} state c && ${hrun} delete c`,
      );
      for (const { code, stdout, stderr } of [await first, await second]) {
        expect([code, stderr]).to.deep.equal([0, '']);
        expect(JSON.parse(stdout)).to.include({ id: 'c', status: 'created' });
      }
      expect((await host.hrun(['--root', root, 'state', 'c'])).stderr).to.contain('container does not exist');
    });

    it('takes a bundle through an absolute link, and is called from namespaces that do not last', async () => {
      await config({ args: ['sleep', '1000'] });
      const link = join(host.directory, 'link');
      await symlink(bundle, link);
      const script = `exec "${host.path}" create --bundle "${link}" c > /dev/null 2>&1`;
      const child = host.startOther('unshare', ['-n', '-m', 'sh', '-c', script]);
      expect(await resultOf(child)).to.include({ code: 0 });
      expect((await state('c')).bundle).to.equal(bundle);
      await host.ok(['oci', 'start', 'c']);
      await host.ok(['oci', 'exec', 'c', 'true']);
      await host.ok(['delete', '--force', 'c']);
    });

    it('kills a paused container, and pauses only what runs', async () => {
      const pid = await running('c', { args: ['sh', '-c', 'while :; do sleep 0.01; done'] });
      await host.ok(['pause', 'c']);
      expect(await state('c')).to.include({ status: 'paused', pid });
      const exec = await host.hrun(['oci', 'exec', 'c', 'true']);
      expect(exec.stderr).to.contain('cannot exec in a paused container');
      expect((await host.hrun(['delete', 'c'])).stderr).to.contain('that is not stopped: paused');
      expect((await host.hrun(['oci', 'start', 'c'])).stderr).to.contain(
        'cannot start a container in the paused state',
      );
      await host.ok(['resume', 'c']);
      expect((await host.hrun(['oci', 'exec', 'c', 'true'])).code).to.equal(0);
      await host.ok(['pause', 'c']);
      await host.ok(['oci', 'kill', 'c', 'KILL']);
      await stopped('c');
    });

    it('changes limits of a living container and tells its numbers', async () => {
      await running('c', { args: ['sleep', '1000'] });
      await host.ok(['update', '--memory', '80m', '--pids-limit', '33', 'c']);
      const { data } = JSON.parse(await host.ok(['oci', 'events', '--stats', 'c']));
      expect(data.pids.limit).to.equal(33);
      expect(data.guest['memory.max'].trim()).to.equal(String(80 * 1024 * 1024));
      expect(data.memory.usage.usage).to.be.greaterThan(0);
      expect(data.memory.swap).to.have.keys(['limit', 'usage', 'max', 'failcnt']);
      // Not a limit that could only be kept by killing.
      const tooSmall = await host.hrun(['update', '--memory', '1k', 'c']);
      expect([tooSmall.code, tooSmall.stderr.includes('unable to set memory limit to 1024')]).to.deep.equal([
        1,
        true,
      ]);
      expect((await state('c')).status).to.equal('running');
      const nonsense = await host.hrun(['update', '--resources', '-', 'c'], {
        input: '{"memory":{"limit":"x"}}',
      });
      expect([nonsense.code, nonsense.stderr.includes('memory.limit')]).to.deep.equal([1, true]);
    });

    it('refuses a caller in a user namespace with one clear error', async () => {
      await using other = await newHrunHost();
      await config({ args: ['true'] });
      const command = ['-r', '-m', other.path, 'create', '--bundle', bundle, 'c'];
      const { code, stderr } = await resultOf(other.startOther('unshare', command));
      expect([code, stderr.includes('rootless containers are not supported')]).to.deep.equal([1, true]);
    });

    it('tells a rootless manager that it is one, which takes itself for root', async () => {
      await config({ args: ['true'] });
      // The program of this checkout may lie where only root may look.
      await using place = await temporaryDirectory();
      await chmod(place.path, 0o755);
      const program = join(place.path, 'hrun');
      await copyFile(host.path, program);
      const nobody = ['--reuid', '65534', '--regid', '65534', '--clear-groups', 'unshare', '-r', '-m'];
      const command = [...nobody, program, 'create', '--bundle', bundle, 'c'];
      const { code, stderr } = await resultOf(host.startOther('setpriv', command));
      expect([code, stderr.includes('rootless containers are not supported')], stderr).to.deep.equal([
        125,
        true,
      ]);
    });

    it('leaves a root file system that can be unmounted, and mounted again, at once', async () => {
      const at = (name: string) => join(host.directory, 'overlay', name);
      for (const name of ['upper', 'work', 'root']) await mkdir(at(name), { recursive: true });
      const layers = `lowerdir=${join(bundle, 'rootfs')},upperdir=${at('upper')},workdir=${at('work')}`;
      const run = (...argv: string[]) => execFileSync(argv[0] ?? '', argv.slice(1), { encoding: 'utf8' });
      const complaints = () =>
        run('dmesg')
          .split('\n')
          .filter((line) => /overlayfs: (upper|work)dir is in-use/.test(line));
      const before = complaints();
      for (let round = 0; round < 5; round += 1) {
        await getReady();
        // Whatever starts meanwhile has the mounts of the host for a moment, as any program with mounts of its own.
        await host.ok(['pool', 'set', '--refill-pause', '600000']);
        run('mount', '-t', 'overlay', 'overlay', '-o', layers, at('root'));
        try {
          await config({
            args: ['sh', '-c', `echo ${round} >> /rounds`],
            spec: { root: { path: at('root') } },
          });
          expect(await runOci()).to.deep.equal({ code: 0, stdout: '', stderr: '' });
        } finally {
          run('umount', at('root'));
        }
        await host.ok(['pool', 'set', '--refill-pause', '0']);
      }
      expect(await readFile(at('upper/rounds'), 'utf8')).to.equal('0\n1\n2\n3\n4\n');
      expect(complaints()).to.deep.equal(before);
    });

    it('goes on when the daemon is killed, and knows what happened meanwhile', async () => {
      const script = 'i=0; while [ $i -lt 40 ]; do echo $i; i=$((i+1)); sleep 0.1; done; exit 5';
      await config({ args: ['sh', '-c', script] });
      const output = join(host.directory, 'output');
      await writeFile(output, '');
      const make = `exec ${host.path} create --bundle ${bundle} c >> ${output} 2>&1`;
      expect(await resultOf(host.startOther('sh', ['-c', make]))).to.include({ code: 0 });
      await host.ok(['oci', 'start', 'c']);
      await until(async () => (await readFile(output, 'utf8')).includes('3\n'));
      const pid = await host.daemonPid();
      process.kill(pid, 'SIGKILL');
      await until(async () => (await host.daemonPid().catch(() => pid)) !== pid);
      expect((await state('c')).status).to.equal('running');
      await stopped('c');
      expect(await readFile(output, 'utf8')).to.equal([...Array(40).keys()].map((i) => `${i}\n`).join(''));
      const [record = ''] = await readdir(join(host.run, 'oci'));
      expect(JSON.parse(await readFile(join(host.run, 'oci', record, 'state.json'), 'utf8'))).to.include({
        exitCode: 5,
      });
    });

    it('tells events of its life', async () => {
      await running('told', { args: ['sleep', '1000'], spec: { annotations: { role: 'test' } } });
      await host.hrun(['oci', 'exec', 'told', 'true']);
      await host.ok(['pause', 'told']);
      await host.ok(['resume', 'told']);
      await host.ok(['oci', 'kill', 'told', 'KILL']);
      await stopped('told');
      await host.ok(['delete', 'told']);
      const past = ['events', '--since', '1h', '--until', '0s', '--filter', 'container=told'];
      const lines = (await host.ok([...past, '--format', '{{.Action}} {{.Actor.Attributes.role}}'])).split(
        '\n',
      );
      const words = ['create', 'launch', 'start', 'exec_create: true', 'exec_start: true', 'exec_die'];
      const end = ['pause', 'unpause', 'kill', 'die', 'destroy'];
      expect(lines).to.deep.equal([...words, ...end].map((word) => `${word} test`));
      const die = await host.ok([...past, '--filter', 'event=die', '--format', 'json']);
      expect(JSON.parse(die).Actor.Attributes).to.include({ exitCode: '137', bundle, name: 'told' });
      const launched = JSON.parse(await host.ok([...past, '--filter', 'event=launch', '--format', 'json']));
      expect(launched.Actor.Attributes.launch).to.equal(launch);
      for (const phase of ['bundle', launch === 'cold' ? 'boot' : 'wake', 'stand-in', 'container']) {
        expect(Number(launched.Actor.Attributes[`phase.${phase}`]), phase).to.be.greaterThan(0);
      }
    });

    it('runs hooks at their moments, with the state on stdin, and gives up for one that fails', async () => {
      const log = join(host.directory, 'hooks');
      const hook = (name: string) => ({
        path: '/bin/sh',
        args: ['sh', '-c', `read state; echo "${name} $state" >> ${log}`],
      });
      const names = ['prestart', 'createRuntime', 'createContainer', 'poststart', 'poststop'];
      const hooks = Object.fromEntries(names.map((name) => [name, [hook(name)]]));
      const pid = await running('c', { args: ['sleep', '1000'], spec: { hooks } });
      await host.ok(['delete', '--force', 'c']);
      const seen = (await readFile(log, 'utf8'))
        .trim()
        .split('\n')
        .map((line) => {
          const { status, id, pid: told } = JSON.parse(line.slice(line.indexOf(' ')));
          return [line.split(' ')[0], status, id, told];
        });
      expect(seen).to.deep.equal([
        ['prestart', 'creating', 'c', pid],
        ['createRuntime', 'creating', 'c', pid],
        ['createContainer', 'creating', 'c', pid],
        ['poststart', 'running', 'c', pid],
        ['poststop', 'stopped', 'c', 0],
      ]);
      const failing = { path: '/bin/sh', args: ['sh', '-c', 'echo no >&2; exit 3'] };
      await config({ args: ['true'], spec: { hooks: { prestart: [failing] } } });
      const { code, stderr } = await create('c');
      expect(code).to.equal(1);
      expect(stderr).to.contain('error running prestart hook #0: exit status 3').and.contain('stderr: no');
      const slow = { path: '/bin/sleep', args: ['sleep', '1000'], timeout: 1 };
      await config({ args: ['true'], spec: { hooks: { createRuntime: [slow] } } });
      expect((await create('c')).stderr).to.contain('hook ran past specified timeout of 1.0s');
      await config({ args: ['sleep', '1000'], spec: { hooks: { poststart: [failing] } } });
      await create('c');
      expect((await host.hrun(['oci', 'start', 'c'])).stderr).to.contain('error running poststart hook #0');
      await stopped('c');
    });

    it('gives up a create whose console socket nobody listens at', async () => {
      await config({ args: ['sh'], terminal: true });
      const path = join(host.directory, 'console');
      const nobody = await create('c', '--console-socket', path);
      expect([nobody.code, nobody.stderr.includes(path)]).to.deep.equal([1, true]);
      // Who connects and reads nothing still gets a terminal: the socket's buffer takes one message. (A server of Node.js
      // would read it, and close the terminal that it does not expect.)
      using _listener = listenUnix(path);
      const { code, stderr } = await create('c', '--console-socket', path);
      expect(code, stderr).to.equal(0);
    });

    it('puts all of a microVM into the cgroup, with its limits', async () => {
      const memory = { limit: 64 * 1024 * 1024 };
      const pid = await created('c', { args: ['true'], linux: { resources: { memory } } });
      const line = (await readFile(`/proc/${pid}/cgroup`, 'utf8'))
        .split('\n')
        .find((text) => text.includes(cgroup));
      expect(line).to.match(/hrun-oci-test-\d+\/c$/);
      const { vm } = await state('c');
      expect(await readFile(`/proc/${vm.pid}/cgroup`, 'utf8')).to.contain(`${cgroup}/c`);
      expect(vm.memoryMiB).to.equal(160);
    });

    if (launch === 'pooled') {
      it('takes a microVM that waits, with its share server, into the cgroup', async () => {
        const pid = await running('c', { args: ['sleep', '1000'] });
        const { vm } = await state('c');
        expect(vm.launch).to.equal('pooled');
        const inside = (await readFile(`/sys/fs/cgroup/pids/${cgroup}/c/cgroup.procs`, 'utf8'))
          .trim()
          .split('\n');
        const names = await Promise.all(inside.map((one) => readFile(`/proc/${one}/comm`, 'utf8')));
        expect(inside).to.include.members([String(pid), String(vm.pid)]);
        expect(names.filter((name) => name.startsWith('virtiofsd')).length).to.be.greaterThan(0);
        expect(inside.length).to.be.greaterThan(3);
      });

      it('is stopped with 137 when the share server of its microVM is killed', async () => {
        await running('c', { args: ['sleep', '1000'] });
        const inside = (await readFile(`/sys/fs/cgroup/pids/${cgroup}/c/cgroup.procs`, 'utf8'))
          .trim()
          .split('\n');
        const names = await Promise.all(inside.map((one) => readFile(`/proc/${one}/comm`, 'utf8')));
        process.kill(Number(inside[names.indexOf('virtiofsd\n')]), 'SIGKILL');
        await stopped('c');
        const [record = ''] = await readdir(join(host.run, 'oci'));
        const kept = JSON.parse(await readFile(join(host.run, 'oci', record, 'state.json'), 'utf8'));
        expect(kept).to.include({ exitCode: 137, error: 'the share server ended' });
      });

      it('leaves nothing when its daemon and its microVM die at once', async () => {
        await running('c', { args: ['sleep', '1000'] });
        const { vm } = await state('c');
        const [record = ''] = await readdir(join(host.run, 'oci'));
        const { shareHost } = JSON.parse(await readFile(join(host.run, 'oci', record, 'state.json'), 'utf8'));
        const pid = await host.daemonPid();
        process.kill(pid, 'SIGKILL');
        process.kill(vm.pid, 'SIGKILL');
        await until(async () => (await host.daemonPid().catch(() => pid)) !== pid);
        await stopped('c');
        await until(async () => (await stat(`/proc/${shareHost.hostPid}`).catch(() => 'gone')) === 'gone');
      });

      it('boots one for a caller in a pid namespace of its own', async () => {
        await config({ args: ['sleep', '1000'] });
        const command = ['--pid', '--fork', '--mount-proc', host.path, 'create', '--bundle', bundle, 'c'];
        const { code, stderr } = await resultOf(host.startOther('unshare', command, 'ignore'));
        expect(code, stderr).to.equal(0);
        expect((await state('c')).vm.launch).to.equal('cold');
      });

      it('ends what waits when the daemon is killed', async () => {
        const [waitingVm = ''] = await readdir(join(host.run, 'vms'));
        const pid = await host.daemonPid();
        process.kill(pid, 'SIGKILL');
        await until(async () => (await host.daemonPid().catch(() => pid)) !== pid);
        await host.ok(['list']);
        expect(await readdir(join(host.run, 'vms'))).to.not.include(waitingVm);
        const left = await host.processes();
        expect(left.filter(({ command }) => command.includes(waitingVm))).to.deep.equal([]);
      });
    }

    it('has the size, and the cache of the share, that its annotations ask for', async () => {
      const annotations = {
        'org.hrun.vcpus': '2',
        'org.hrun.memory': '200m',
        'org.hrun.share-cache': 'none',
      };
      await created('c', { args: ['sleep', '1000'], spec: { annotations } });
      const { vm } = await state('c');
      expect([vm.vcpus, vm.memoryMiB]).to.deep.equal([2, 200]);
      expect(await readFile(`/proc/${vm.pid}/cmdline`, 'utf8')).to.match(/200m|209715200/i);
      const inside = await readFile(`/sys/fs/cgroup/pids/${cgroup}/c/cgroup.procs`, 'utf8');
      const commands = await Promise.all(
        inside
          .trim()
          .split('\n')
          .map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8')),
      );
      expect(commands.filter((command) => command.includes('cache=none'))).to.not.be.empty;
      await host.ok(['oci', 'start', 'c']);
      expect(await host.ok(['oci', 'exec', 'c', 'nproc'])).to.equal('2');
    });

    it('boots no kernel that the host does not allow, and the one that it does', async () => {
      const kernel = join(host.directory, 'vmlinux');
      const section = { kernel: { path: kernel, parameters: ['hrun.told=yes'] } };
      await config({ args: ['cat', '/proc/cmdline'], spec: { vm: section } });
      const refused = await runOci();
      expect([refused.code, refused.stderr.includes('vm.kernel.path')]).to.deep.equal([1, true]);
      await using other = await newHrunHost({ config: { poolReady: 0, bundleKernels: [kernel] } });
      await copyFile(join(hrunPath, '../guest/vmlinux'), kernel);
      const allowed = await other.hrun(['oci', 'run', '--bundle', bundle, 'c']);
      expect([allowed.code, allowed.stderr]).to.deep.equal([0, '']);
      expect(allowed.stdout).to.contain('hrun.told=yes');
    });

    it('makes two containers of one network namespace share a microVM', async () => {
      const serve = 'echo shared | nc -l -p 5555; sleep 1000';
      const pid = await running('a', { args: ['sh', '-c', serve] });
      const namespaces = [
        { type: 'network', path: `/proc/${pid}/ns/net` },
        ...['pid', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
      ];
      await config({
        args: ['sh', '-c', 'until nc -w 5 127.0.0.1 5555; do sleep 0.1; done'],
        linux: { namespaces, cgroupsPath: `/${cgroup}/d` },
      });
      const result = await host.hrun(['oci', 'run', '--bundle', bundle, 'b']);
      expect(result).to.deep.equal({ code: 0, stdout: 'shared\n', stderr: '' });
      expect((await state('a')).status).to.equal('running');
    });

    it('makes the host count an OOM kill of the guest, after the microVM and before the exit', async function () {
      const events = '/sys/fs/cgroup/memory';
      if ((await stat(events).catch(() => undefined)) === undefined) this.skip();
      await config({
        args: ['sh', '-c', 'tail /dev/zero'],
        linux: { resources: { memory: { limit: 16 * 1024 * 1024, swap: 16 * 1024 * 1024 } } },
      });
      await create('c');
      await host.ok(['oci', 'start', 'c']);
      await stopped('c');
      const control = await readFile(join(events, cgroup, 'c/memory.oom_control'), 'utf8');
      expect(control).to.match(/oom_kill [1-9]/);
    });
  });
}
