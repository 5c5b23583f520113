import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { type HrunHost, newHrunHost } from '../../helpers/hrunHost.ts';
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
    logs: await host.ok(['logs', 'one']),
  });

  async function stateFiles(): Promise<string[]> {
    const names = await readdir(host.root, { recursive: true });
    return names.filter((name) => /\.json$/.test(name) && !/blobs|config\.json/.test(name));
  }

  it('tells the truth, or which file is damaged', async function () {
    this.timeout(600_000);
    const before = await truth();
    const files = await stateFiles();
    expect(files.join(' '))
      .to.match(/container\.json/)
      .and.match(/index\.json/)
      .and.match(/volume\.json/);
    for (const file of files) {
      const path = join(host.root, file);
      for (const [what, damage] of Object.entries(damages)) {
        for (let round = 0; round < rounds; round += 1) {
          await host.ok(['daemon', 'stop']);
          const whole = await readFile(path);
          await writeFile(path, damage(whole));
          const { code, stderr } = await host.hrun(['ps', '-a']);
          tried += 1;
          if (code === 0) {
            expect(await truth(), `${file} without ${what}`).to.deep.equal(before);
            repaired += 1;
          } else {
            expect(code).to.be.within(1, 125);
            expect(stderr, `${file} without ${what}`).to.contain(path.split('/').at(-1));
          }
          // and it is well again with its file
          if (code !== 0) await writeFile(path, whole);
          expect(await truth()).to.deep.equal(before);
        }
      }
    }
    expect(await host.ok(['run', '--rm', 'busybox', 'echo', 'well'])).to.equal('well');
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
