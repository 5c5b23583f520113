import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { makeBundle } from '../../helpers/bundle.ts';
import { type HrunHost, newHrunHost, resultOf } from '../../helpers/hrunHost.ts';
import { report } from '../../helpers/report.ts';

const run = promisify(execFile);
/** Of each kind of damage; `make chaos` does more. */
const rounds = process.env.HRUN_CHAOS_ROUNDS === undefined ? 1 : 5;

/** What of the files below a directory may be damaged, with a bit that has changed, or its end missing. */
const damages: Readonly<Record<string, (bytes: Buffer) => Buffer>> = {
  'a bit': (bytes) => {
    const changed = Buffer.from(bytes);
    const at = randomInt(bytes.length);
    changed[at] = (changed[at] ?? 0) ^ (1 << randomInt(7));
    return changed;
  },
  'its end': (bytes) => bytes.subarray(0, randomInt(bytes.length)),
};

describe('a host whose files have changed while no daemon ran', () => {
  let host: HrunHost;
  let tried = 0;
  let repaired = 0;

  before(async () => {
    host = await newHrunHost({ config: { poolReady: 0 } });
    for (const name of ['one', 'two'])
      await host.hrun(['run', '--name', name, 'busybox', 'sh', '-c', `echo ${name}; exit 3`]);
    await host.ok(['volume', 'create', 'data']);
    await host.ok(['network', 'create', 'mine']);
  });
  after(async () => {
    await report('corruption', 'state files, with a daemon and microVMs', {
      times: tried,
      repaired,
      refused: tried - repaired,
      'wrong answers': 0,
    });
    await host[Symbol.asyncDispose]();
  });

  const truth = async () => ({
    containers: await host.ok([
      'ps',
      '-a',
      '--no-trunc',
      '--format',
      '{{.ID}} {{.Names}} {{.Image}} {{.Command}}',
    ]),
    states: await host.ok([
      'inspect',
      '-f',
      '{{json .State}}{{json .Config}}{{json .HostConfig}}',
      'one',
      'two',
    ]),
    images: await host.ok(['images', '--no-trunc']),
    volumes: await host.ok(['volume', 'inspect', 'data']),
    networks: await host.ok(['network', 'inspect', 'mine']),
    logs: await host.ok(['logs', 'one']),
  });

  async function stateFiles(): Promise<string[]> {
    const names = await readdir(host.root, { recursive: true });
    return names.filter((name) => /\.json$/.test(name) && !/blobs|config\.json/.test(name));
  }

  /** The lists of everything, which show what can be read, and say what cannot. */
  async function lists(): Promise<{ readonly shown: string; readonly told: string }> {
    const all = [
      ['ps', '-a', '--format', '{{.ID}} {{.Names}} {{.Image}}'],
      ['volume', 'ls'],
      ['network', 'ls'],
    ];
    const results = await Promise.all(all.map((args) => host.hrun(args)));
    const images = await host.hrun(['images', '--format', '{{.Repository}} {{.ID}}']);
    expect(results.map(({ code }) => code)).to.deep.equal([0, 0, 0]);
    const every = [...results, images];
    return {
      shown: every.map(({ stdout }) => stdout).join(''),
      told: every.map(({ stderr }) => stderr).join(''),
    };
  }

  it('tells the truth, or which file is damaged', async function () {
    this.timeout(600_000);
    const before = await truth();
    const whole = await lists();
    expect(whole.told).to.equal('');
    const files = await stateFiles();
    expect(files.join(' '))
      .to.match(/container\.json/)
      .and.match(/index\.json/)
      .and.match(/volume\.json/)
      .and.match(/networks\/[0-9a-f]{64}\.json/);
    for (const file of files) {
      const path = join(host.root, file);
      for (const [what, damage] of Object.entries(damages)) {
        for (let round = 0; round < rounds; round += 1) {
          await host.ok(['daemon', 'stop']);
          const content = await readFile(path);
          await writeFile(path, damage(content));
          const { shown, told } = await lists();
          tried += 1;
          if (told === '') {
            expect(await truth(), `${file} without ${what}`).to.deep.equal(before);
            repaired += 1;
            continue;
          }
          expect(told, `${file} without ${what}`).to.contain(path.split('/').at(-1));
          // all that is shown is true
          expect(whole.shown.split('\n')).to.include.members(shown.split('\n'));
          // and it is well again with its file
          await host.ok(['daemon', 'stop']);
          await writeFile(path, content);
          expect(await truth()).to.deep.equal(before);
        }
      }
    }
    expect(await host.ok(['run', '--rm', 'busybox', 'echo', 'well'])).to.equal('well');
  });

  it('serves all others, and removes what is damaged', async function () {
    this.timeout(600_000);
    await host.ok(['run', '-d', '--name', 'runs', 'busybox', 'sleep', '100000']);
    const damaged = await host.ok([
      'run',
      '-d',
      '--name',
      'doomed',
      '-v',
      'lost:/v',
      'busybox',
      'sleep',
      '100000',
    ]);
    await host.ok(['network', 'create', 'lost']);
    const network = await host.ok(['network', 'inspect', '-f', '{{.Id}}', 'lost']);
    const index = join(host.root, 'images/index.json');
    const images = await readFile(index);
    process.kill(await host.daemonPid(), 'SIGKILL');
    const files = [
      `containers/${damaged}/container.json`,
      'volumes/lost/volume.json',
      `networks/${network}.json`,
    ];
    for (const path of files) await truncate(join(host.root, path), 20);
    await writeFile(index, '{');
    await rm(join(host.root, 'events.log'));
    await mkdir(join(host.root, 'events.log'));
    await mkdir(join(host.run, 'sessions', `${'0'.repeat(64)}.json`));
    await mkdir(join(host.root, 'containers', 'lost+found'));

    expect(await host.ok(['exec', 'runs', 'echo', 'served'])).to.equal('served');
    expect(await host.ok(['logs', 'one'])).to.equal('one');
    expect(await host.ok(['inspect', '-f', '{{.Name}}', 'two'])).to.equal('/two');
    const { stdout: checks } = await host.hrun(['doctor']);
    for (const path of [...files, 'images/index.json']) expect(checks).to.contain(join(host.root, path));
    // what is damaged is asked for, and told
    for (const args of [
      ['inspect', damaged],
      ['start', damaged],
      ['rm', damaged],
      ['volume', 'rm', 'lost'],
      ['volume', 'prune', '-a'],
      ['images'],
      ['network', 'inspect', network],
    ]) {
      const { code, stderr } = await host.hrun(args);
      expect({ code, told: /is damaged: .* cannot be read/.test(stderr) }, args.join(' ')).to.deep.equal({
        code: 1,
        told: true,
      });
    }
    // nothing of it runs on unwatched
    expect((await host.processes()).filter(({ command }) => /qemu-system/.test(command))).to.have.length(1);

    await writeFile(index, images);
    expect(await host.ok(['run', '--rm', 'busybox', 'echo', 'well'])).to.equal('well');
    expect(await host.ok(['rm', '-f', damaged.slice(0, 12)])).to.equal(damaged.slice(0, 12));
    await host.ok(['volume', 'rm', '-f', 'lost']);
    await host.ok(['network', 'rm', network]);
    expect((await lists()).told).to.equal('');
    await host.ok(['rm', '-f', 'runs']);
    expect(await host.ok(['volume', 'ls', '-q'])).to.equal('data');
  });

  it('ends a container that cannot be taken over, and tells why', async () => {
    const id = await host.ok(['run', '-d', '--name', 'mute', 'busybox', 'sleep', '100000']);
    const log = join(host.root, 'containers', id, 'output.log');
    process.kill(await host.daemonPid(), 'SIGKILL');
    await rm(log);
    await mkdir(log);
    const state = JSON.parse(await host.ok(['inspect', '-f', '{{json .State}}', 'mute']));
    expect(state).to.include({ Status: 'exited', ExitCode: 137 });
    expect(state.Error).to.contain('EISDIR');
    expect((await host.processes()).filter(({ command }) => /qemu-system/.test(command))).to.deep.equal([]);
    await host.ok(['rm', 'mute']);
  });

  it("ends a manager's container whose record is damaged, and tells its process that it was killed", async () => {
    const bundle = await makeBundle(join(host.directory, 'bundle'), { args: ['sleep', '100000'] });
    const create = ['create', '--bundle', bundle, 'box'];
    // PR_SET_CHILD_SUBREAPER, as conmon and the shim do: the process in the pid-file is the manager's to wait for
    const reaper =
      'syscall(157, 36, 1, 0, 0, 0); system(@ARGV) == 0 or die; while (wait() > 0) { print $? >> 8 }';
    const quiet = ['sh', '-c', '"$@" >/dev/null </dev/null', 'sh', host.path, ...create];
    const manager = resultOf(host.startOther('perl', ['-e', reaper, ...quiet]));
    await host.ok(['run', '-d', '--name', 'runs', 'busybox', 'sleep', '100000']);
    while ((await host.hrun(['state', 'box'])).code !== 0) await sleep(50);
    await host.ok(['start', 'box']);
    const [record = ''] = await readdir(join(host.run, 'oci'));
    process.kill(await host.daemonPid(), 'SIGKILL');
    await truncate(join(host.run, 'oci', record, 'state.json'), 20);
    expect(await host.ok(['exec', 'runs', 'echo', 'served'])).to.equal('served');
    const { code, stderr } = await host.hrun(['state', 'box']);
    expect({ code, stderr }).to.deep.include({ code: 1 });
    expect(stderr).to.contain('does not exist');
    expect(await manager).to.deep.include({ code: 0, stdout: '137' });
    expect((await host.processes()).filter(({ command }) => /qemu-system/.test(command))).to.have.length(1);
    await host.ok(['rm', '-f', 'runs']);
  });

  it('makes templates again that are damaged', async function () {
    this.timeout(600_000);
    await host.ok(['template', 'build']);
    for (const name of ['ram', 'state', 'template.json']) {
      const found = (await readdir(host.root, { recursive: true })).find((path) =>
        new RegExp(`/[0-9a-f]{32}/${name}$`).test(path),
      );
      if (found === undefined) throw new Error(`no template has a file ${name}`);
      await host.ok(['daemon', 'stop']);
      const path = join(host.root, found);
      const bytes = await readFile(path);
      const at = bytes.findIndex((byte) => byte !== 0);
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      await writeFile(path, bytes);
      expect(await host.ok(['run', '--rm', 'busybox', 'echo', 'well'])).to.equal('well');
    }
  });

  it('does not run what is left of an image', async () => {
    const disks = join(host.root, 'images/disks');
    for (const name of await readdir(disks)) {
      const path = join(disks, name);
      await host.ok(['daemon', 'stop']);
      await truncate(path, 4096);
      const { code, stdout, stderr } = await host.hrun(['run', '--rm', 'busybox', 'echo', 'well']);
      if (code === 0) expect(stdout).to.equal('well\n');
      else expect({ code, told: /hrun: /.test(stderr) }).to.deep.equal({ code: 125, told: true });
      await rm(path);
      expect(await host.ok(['run', '--rm', 'busybox', 'echo', 'well'])).to.equal('well');
    }
  });

  it('says that nothing can be written where nothing can', async () => {
    await host.ok(['run', '-d', '--name', 'runs', 'busybox', 'sleep', '100000']);
    await run('mount', ['--bind', host.root, host.root]);
    await run('mount', ['-o', 'remount,bind,ro', host.root]);
    try {
      const { code, stderr } = await host.hrun(['run', '--rm', 'busybox', 'true']);
      expect(code).to.equal(125);
      expect(stderr).to.match(/read-only file system|EROFS/i);
      expect(await host.ok(['exec', 'runs', 'echo', 'in'])).to.equal('in');
    } finally {
      await run('umount', [host.root]);
    }
    await host.ok(['rm', '-f', 'runs']);
    expect(await host.ok(['run', '--rm', 'busybox', 'echo', 'well'])).to.equal('well');
  });

  it('knows after a reboot what ran before', async () => {
    await host.ok(['run', '-d', '--name', 'ran', 'busybox', 'sleep', '100000']);
    await host.ok(['run', '-d', '--rm', '--name', 'gone', 'busybox', 'sleep', '100000']);
    for (const { pid } of await host.processes()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
    // nothing of a run directory outlives a boot
    await rm(host.run, { recursive: true, force: true });
    const state = JSON.parse(await host.ok(['inspect', '-f', '{{json .State}}', 'ran']));
    expect(state).to.include({ Status: 'exited', ExitCode: 137 });
    expect(state.Error).not.to.equal('');
    expect(await host.ok(['ps', '-aq', '--filter', 'name=gone'])).to.equal('');
    expect(await host.hrun(['start', '-a', 'one'])).to.include({ code: 3, stdout: 'one\n' });
  });
});
