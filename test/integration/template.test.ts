import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFile, copyFile, open, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { type HrunHost, newHrunHost } from '../helpers/hrunHost.ts';

const execute = promisify(execFile);

interface Timing {
  readonly launch: string;
  readonly why: string;
}

describe('a template', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost();
    // every launch is one of its own
    await writeFile(join(host.directory, 'config.json'), JSON.stringify({ network: 'none', poolReady: 0 }));
  });
  after(() => host[Symbol.asyncDispose]());

  async function launch(...flags: string[]): Promise<Timing> {
    const { code, stderr } = await host.hrun(['run', '--rm', '--timing', ...flags, 'busybox', 'true']);
    expect(code, stderr).to.equal(0);
    const [, kind = '', why = ''] = /^launch: (\w+)(?: \((.*)\))?$/m.exec(stderr) ?? [];
    const phases = stderr.includes('\ntemplate ') ? 'built' : 'found';
    return { launch: kind, why: why === '' ? phases : why };
  }

  const directory = () => join(host.root, 'cache/templates');

  async function files(): Promise<{ readonly path: string; readonly sha256: string }[]> {
    const paths = (await readdir(directory(), { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .toSorted();
    const hash = async (path: string) =>
      createHash('sha256')
        .update(await readFile(path))
        .digest('hex');
    return await Promise.all(paths.map(async (path) => ({ path, sha256: await hash(path) })));
  }

  it('is made at the first launch, and every later one is its clone', async () => {
    // it was made for unpacking the image already
    await host.ok(['run', '--rm', 'busybox', 'true']);
    await host.ok(['template', 'prune', '--all']);
    expect(await launch()).to.deep.equal({ launch: 'cloned', why: 'built' });
    expect(await launch()).to.deep.equal({ launch: 'cloned', why: 'found' });
    const [row, ...more] = (await host.ok(['template', 'ls', '-q'])).split('\n');
    expect(row).to.match(/^[0-9a-f]{12}$/);
    expect(more).to.deep.equal([]);
  });

  it('is not used for a launch that shall boot, or share nothing', async () => {
    expect(await launch('--cold')).to.deep.equal({ launch: 'cold', why: 'asked for' });
    expect((await launch('--template-scope', 'none')).launch).to.equal('cold');
    expect((await launch('-v', `${host.directory}:/x`)).why).to.contain('share');
  });

  it('of another size is made at the second launch of that size', async () => {
    expect(await launch('-m', '100m')).to.deep.equal({
      launch: 'cold',
      why: 'the first launch of its shape',
    });
    expect(await launch('-m', '100m')).to.deep.equal({ launch: 'cloned', why: 'built' });
    expect(await launch('-m', '100m')).to.deep.equal({ launch: 'cloned', why: 'found' });
    const sizes = await host.ok(['template', 'ls', '--format', '{{.Memory}}']);
    expect(sizes.split('\n')).to.have.length(2);
  });

  it('belongs to one tenant if it is asked for', async () => {
    await launch('--template-scope', 'tenant=a');
    await launch('--template-scope', 'tenant=b');
    const scopes = (await host.ok(['template', 'ls', '--format', '{{.Scope}}'])).split('\n');
    expect(scopes).to.include.members(['tenant=a', 'tenant=b']);
  });

  it('is built once by many that want it first', async () => {
    await host.ok(['template', 'prune', '--all']);
    const launches = await Promise.all(Array.from({ length: 4 }, () => launch()));
    expect(launches.map(({ launch: kind }) => kind)).to.deep.equal(Array(4).fill('cloned'));
    expect((await host.ok(['template', 'ls', '-q'])).split('\n')).to.have.length(1);
    expect((await readdir(directory())).filter((name) => name.startsWith('new-'))).to.deep.equal([]);
  });

  it('stays as it is, whatever its clones do', async () => {
    await launch();
    const before = await files();
    const script =
      'dd if=/dev/zero of=/dev/shm/x bs=1M count=40; rm /dev/shm/x; echo 3 > /proc/sys/vm/drop_caches';
    await host.hrun(['run', '--rm', '--cap-add', 'ALL', 'busybox', 'sh', '-c', script]);
    expect(await files()).to.deep.equal(before);
  });

  it('that is damaged, cut off or half there is made anew, never used', async () => {
    await launch();
    const damages: Readonly<Record<string, (path: string) => Promise<void>>> = {
      ram: flipOneBit,
      state: (path) => truncate(path, 1000),
      'template.json': (path) => writeFile(path, '{"version":1}'),
    };
    for (const [name, damage] of Object.entries(damages)) {
      // what is in the daemon's memory is sealed: only a new one reads the files
      await host.ok(['daemon', 'stop']);
      const [key = ''] = await readdir(directory());
      await damage(join(directory(), key, name));
      expect(await launch(), name).to.deep.equal({ launch: 'cloned', why: 'built' });
    }
  });

  it('that does not fit on the disk serves as long as the daemon lives', async () => {
    await launch();
    await host.ok(['template', 'prune', '--all']);
    await host.ok(['daemon', 'stop']);
    await execute('mount', ['-t', 'tmpfs', '-o', 'size=30m,mode=0700', 'small', directory()]);
    try {
      expect(await launch()).to.deep.equal({ launch: 'cloned', why: 'built' });
      expect(await launch()).to.deep.equal({ launch: 'cloned', why: 'found' });
      expect(await readdir(directory())).to.deep.equal([]);
    } finally {
      await host.ok(['daemon', 'stop']);
      await execute('umount', [directory()]);
    }
  });

  it('is found by the next daemon', async () => {
    await launch();
    await host.ok(['daemon', 'stop']);
    expect(await launch()).to.deep.equal({ launch: 'cloned', why: 'found' });
  });

  it('of another kernel is another one, and goes with prune once nothing fits it', async () => {
    const kernel = join(host.directory, 'vmlinux');
    await copyFile(join(import.meta.dirname, '../../dist/guest/vmlinux'), kernel);
    // what is behind the sections of an ELF file belongs to nothing
    await appendFile(kernel, 'x');
    await host.ok(['template', 'prune', '--all']);
    await launch();
    await launch('--kernel', kernel);
    await launch('--kernel', kernel);
    const kernels = () => host.ok(['template', 'ls', '--format', '{{.Kernel}}']);
    expect((await kernels()).split('\n'))
      .to.have.length(2)
      .and.include(kernel);
    await writeFile(kernel, 'another');
    await host.ok(['template', 'prune']);
    expect(await kernels())
      .not.to.include(kernel)
      .and.not.equal('');
  });

  it('can be built before it is needed, and removed', async () => {
    await host.ok(['template', 'prune', '--all']);
    const id = await host.ok(['template', 'build', '--memory', '90m']);
    expect(await launch('-m', '90m')).to.deep.equal({ launch: 'cloned', why: 'found' });
    expect(await host.ok(['template', 'rm', id.slice(0, 8)])).to.equal(id);
    expect(await host.ok(['template', 'ls', '-q'])).to.equal('');
    const missing = await host.hrun(['template', 'rm', id]);
    expect(missing.code).to.equal(1);
    expect(missing.stderr).to.contain(`No such template: ${id}`);
  });
});

async function flipOneBit(path: string): Promise<void> {
  await using file = await open(path, 'r+');
  const { size } = await file.stat();
  const byte = Buffer.alloc(1);
  // somewhere in the kernel's code, which no guest leaves zero
  const position = Math.min(size, 17 * 1024 * 1024);
  await file.read(byte, 0, 1, position);
  byte[0] = (byte[0] ?? 0) ^ 1;
  await file.write(byte, 0, 1, position);
}
