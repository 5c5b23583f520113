import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { tool } from '../../helpers/disks.ts';
import { tracesOf } from '../../helpers/hostTraces.ts';
import { type HrunHost, newHrunHost } from '../../helpers/hrunHost.ts';

describe('named volumes', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost({ config: { poolReady: 0 } });
    await host.ok(['run', '--rm', 'busybox', 'true']);
    await host.ok(['volume', 'create', '--label', 'role=test', 'files']);
    await host.ok(['volume', 'create', '--driver', 'disk', '--size', '64m', 'block']);
  });
  after(() => host[Symbol.asyncDispose]());

  const sh = (flags: readonly string[], script: string) =>
    host.ok(['run', '--rm', ...flags, 'busybox', 'sh', '-c', script]);
  const both = ['files', 'block'] as const;

  it('are listed and inspected as Docker shows them', async () => {
    expect(await host.ok(['volume', 'ls'])).to.equal(
      'DRIVER    VOLUME NAME\ndisk      block\ndir       files',
    );
    expect(await host.ok(['volume', 'ls', '-q', '--filter', 'label=role=test'])).to.equal('files');
    expect(await host.ok(['volume', 'ls', '--format', '{{.Name}}={{.Driver}}'])).to.equal(
      'block=disk\nfiles=dir',
    );
    const [files] = JSON.parse(await host.ok(['volume', 'inspect', 'files']));
    expect(files).to.deep.include({
      Name: 'files',
      Driver: 'dir',
      Labels: { role: 'test' },
      Options: {},
      Scope: 'local',
    });
    expect(await readdir(files.Mountpoint)).to.deep.equal([]);
    const unknown = await host.hrun(['volume', 'inspect', 'nope']);
    expect([unknown.code, unknown.stdout, unknown.stderr]).to.deep.equal([
      1,
      '[]\n',
      'hrun: No such volume: nope\n',
    ]);
  });

  for (const name of both) {
    it(`keep what is written, start as the image has it, and go nowhere else (${name})`, async () => {
      const first = await sh(
        ['-v', `${name}:/etc`],
        'cat /etc/passwd | wc -l; stat -c %a /etc/shadow; echo mine > /etc/own',
      );
      expect(first).to.equal('4\n640');
      expect(await sh(['-v', `${name}:/x`], 'ls /x'))
        .to.contain('own')
        .and.contain('passwd');
      // no longer empty: nothing more is copied
      expect(await sh(['-v', `${name}:/bin2`, '-v', `${name}:/usr`], 'ls /usr')).to.contain('own');
    });

    it(`are read-only by the wall, not by the guest (${name})`, async () => {
      const script = 'echo no > /x/no; mount -o remount,rw /x; echo no > /x/no; cat /x/own';
      const { stdout } = await host.hrun([
        'run',
        '--rm',
        '--cap-add',
        'ALL',
        '-v',
        `${name}:/x:ro`,
        'busybox',
        'sh',
        '-c',
        script,
      ]);
      expect(stdout).to.equal('mine\n');
      expect(await sh(['-v', `${name}:/x`], 'ls /x')).not.to.contain('no\n');
    });

    it(`take the options of a mount (${name})`, async () => {
      const line = await sh(['-v', `${name}:/x:nosuid,noexec,nodev`], 'grep " /x " /proc/mounts');
      expect(line).to.match(/rw,nosuid,nodev,noexec/);
    });

    it(`are written out as a tar and taken in again (${name})`, async () => {
      const archive = join(host.directory, `${name}.tar`);
      await host.ok(['volume', 'export', name, '--output', archive]);
      const names = (await tool('tar', 'tf', archive)).split('\n');
      expect(names).to.include.members(['./', './own', './passwd']);
      await host.ok(['volume', 'create', `${name}-copy`]);
      await host.ok(['volume', 'import', `${name}-copy`, '-'], { input: await readFile(archive) });
      expect(await sh(['-v', `${name}-copy:/x`], 'cat /x/own; stat -c %a /x/shadow')).to.equal('mine\n640');
      await host.ok(['volume', 'rm', `${name}-copy`]);
      expect(await host.ok(['ps', '-aq'])).to.equal('');
    });

    it(`are not removed while a container has them (${name})`, async () => {
      const id = await host.ok(['create', '-v', `${name}:/x`, 'busybox', 'true']);
      const { code, stderr } = await host.hrun(['volume', 'rm', name]);
      expect([code, stderr]).to.deep.equal([
        1,
        `hrun: remove ${name}: volume is in use - [${id}]\nhint: remove these containers first\n`,
      ]);
      expect(await host.ok(['volume', 'ls', '-q', '--filter', 'dangling=false'])).to.equal(name);
      await host.ok(['rm', '-v', id]);
      expect((await host.ok(['volume', 'ls', '-q'])).split('\n')).to.include(name);
    });
  }

  it('are shared by many if they are directories, and have one writer if they are disks', async () => {
    await host.ok([
      'run',
      '-d',
      '--name',
      'holder',
      '-v',
      'files:/f',
      '-v',
      'block:/b',
      'busybox',
      'sleep',
      '1000',
    ]);
    expect(await sh(['-v', 'files:/f'], 'cat /f/own')).to.equal('mine');
    const before = await tracesOf(host);
    const { code, stderr } = await host.hrun(['run', '--rm', '-v', 'block:/b', 'busybox', 'true']);
    expect(code).to.equal(125);
    expect(stderr).to.contain('hrun: the volume "block" is in use by container holder\n');
    expect((await host.hrun(['volume', 'resize', 'block', '--size', '128m'])).stderr).to.contain(
      'volume is in use',
    );
    expect(await tracesOf(host)).to.deep.equal(before);
    await host.ok(['rm', '-f', 'holder']);
  });

  it('grow when they are disks', async () => {
    const size = () => sh(['-v', 'block:/b'], 'df -m /b | tail -1 | awk "{print \\$2}"').then(Number);
    expect(await size()).to.be.lessThan(64);
    await host.ok(['volume', 'resize', 'block', '--size', '512m']);
    expect(await size()).to.be.greaterThan(400);
    expect((await host.hrun(['volume', 'resize', 'block', '--size', '64m'])).stderr).to.contain(
      'cannot shrink',
    );
  });

  it('are left empty with nocopy', async () => {
    expect(await sh(['-v', 'blank:/etc:nocopy'], 'ls /etc')).to.equal('hostname\nhosts\nresolv.conf');
    await host.ok(['volume', 'rm', 'blank']);
  });

  it('without a name go with their container if that is asked for', async () => {
    const anonymous = async () => await host.ok(['volume', 'ls', '-q', '--filter', 'name=^[0-9a-f]{64}$']);
    await host.ok(['run', '--rm', '-v', '/anon', 'busybox', 'sh', '-c', 'echo x > /anon/x']);
    expect(await anonymous()).to.equal('');
    await host
      .ok(['run', '--name', 'one', '-v', '/anon', 'busybox', 'sh', '-c', 'cat /anon/x; echo again > /anon/x'])
      .catch(() => {});
    const volume = await anonymous();
    expect(volume).to.match(/^[0-9a-f]{64}$/);
    expect(await host.ok(['start', '-a', 'one'])).to.equal('again');
    await host.ok(['rm', 'one']);
    expect(await anonymous()).to.equal(volume);
    expect(await host.ok(['volume', 'prune', '-f'])).to.match(
      new RegExp(`^Deleted Volumes:\n${volume}\n\nTotal reclaimed space: `),
    );
    await host.ok(['create', '--name', 'two', '-v', '/anon', 'busybox', 'true']);
    await host.ok(['rm', '-v', 'two']);
    expect(await anonymous()).to.equal('');
  });

  it('of an image are mounted read-only', async () => {
    const { stdout, stderr } = await host.hrun([
      ...['run', '--rm', '--mount', 'type=image,src=busybox,dst=/img', 'busybox'],
      ...['sh', '-c', 'head -n1 /img/etc/passwd; touch /img/x'],
    ]);
    expect(stdout).to.match(/^root:/);
    expect(stderr).to.contain('Read-only file system');
  });

  it('that cannot be had are told in a line, and leave nothing', async () => {
    const file = join(host.directory, 'file');
    await tool('touch', file);
    const before = await tracesOf(host);
    const cases: [string[], RegExp][] = [
      [['--mount', 'type=bind,src=/no/such,dst=/x'], /bind source path does not exist: \/no\/such/],
      [['-v', `${file}:/etc`], /cannot mount on \/etc: a file cannot be mounted over a directory/],
      [
        ['-v', 'block:/etc/passwd'],
        /cannot mount on \/etc\/passwd: a directory cannot be mounted over a file/,
      ],
      [['-v', '/dev/null:/x'], /neither a directory nor a regular file/],
      [['-v', 'a/b:/x'], /includes invalid characters/],
      [['-v', 'files:/x:rshared'], /propagation "rshared" is not supported/],
      [['--mount', 'type=volume,src=files,dst=/x,volume-driver=disk'], /with other options/],
      [['--mount', 'type=image,src=nosuchimage,dst=/x', '--pull', 'never'], /nosuchimage/],
      [['-v', 'files:/x', '-v', 'block:/x'], /duplicate mount point: \/x/],
      [['-v', '/anon', '--mount', 'type=bind,src=/no/such,dst=/x'], /does not exist/],
      [['-v', '/anon', '-v', 'block:/x', '--workdir', '/etc/passwd'], /./],
    ];
    for (const [flags, message] of cases) {
      const { code, stderr } = await host.hrun(['run', ...flags, 'busybox', 'true']);
      expect(code, flags.join(' ')).to.be.oneOf([125, 126, 127]);
      expect(stderr, flags.join(' '))
        .to.match(message)
        .and.match(/^hrun: [^\n]*\n(hint: [^\n]*\n)?$/);
    }
    expect(await tracesOf(host)).to.deep.equal(before);
  });

  it('are not made on a full disk, and say so', async () => {
    await using other = await newHrunHost({ config: { poolReady: 0 } });
    await other.ok(['volume', 'ls']);
    const place = join(other.root, 'volumes');
    await tool('mount', '-t', 'tmpfs', '-o', 'size=1m', 'full', place);
    try {
      for (const args of [
        ['volume', 'create', '-d', 'disk', 'db'],
        ['create', '-v', '/anon', 'busybox', 'true'],
      ]) {
        const { code, stderr } = await other.hrun(args);
        expect(code).to.equal(1);
        expect(stderr).to.match(/^hrun: no space is left in \S+ for the volume [^\n]*\nhint: [^\n]*\n$/);
      }
      expect(await readdir(place)).to.deep.equal([]);
      expect(await other.ok(['volume', 'ls', '-q'])).to.equal('');
      expect(await other.ok(['ps', '-aq'])).to.equal('');
    } finally {
      await tool('umount', place);
    }
  });
});
