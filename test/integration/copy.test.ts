import { execFile } from 'node:child_process';
import {
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { type HrunHost, hrunPath, newHrunHost } from '../helpers/hrunHost.ts';

const execute = promisify(execFile);

describe('hrun cp', () => {
  let host: HrunHost;
  let here: string;

  before(async () => {
    host = await newHrunHost();
    here = join(host.directory, 'here');
    await mkdir(here);
    await host.ok(['run', '-d', '--name', 'cc', 'busybox', 'sleep', '10000']);
  });
  after(() => host[Symbol.asyncDispose]());

  const inside = (script: string) => host.ok(['exec', 'cc', 'sh', '-c', script]);
  const cp = (...args: string[]) => host.ok(['cp', ...args], { cwd: here });
  const path = (...names: string[]) => join(here, ...names);

  /** A directory with what is easily lost: modes, links of both kinds, owners, empty directories, odd names. */
  async function makeTree(name: string): Promise<void> {
    const at = (...names: string[]) => path(name, ...names);
    await mkdir(at('sub/empty'), { recursive: true });
    await writeFile(at('plain'), 'plain\n', { mode: 0o640 });
    await writeFile(at('sub/tool'), '#!/bin/sh\n');
    await chmod(at('sub/tool'), 0o4755);
    await link(at('plain'), at('sub/same'));
    await symlink('../plain', at('sub/to-plain'));
    await symlink('/etc/hostname', at('absolute'));
    await writeFile(at('sub/späße\n'), 'odd');
    await chown(at('plain'), 1234, 2345);
    await chown(at('sub'), 1234, 2345);
    await chmod(at('sub/empty'), 0o1777);
  }

  it('takes a directory in, as root’s, with links as links', async () => {
    await makeTree('in');
    await cp('in', 'cc:/tmp/in');
    const listing = await inside(
      'cd /tmp/in; stat -c "%n %a %u:%g %F" . plain sub sub/tool sub/empty sub/to-plain',
    );
    expect(listing.split('\n')).to.deep.equal([
      '. 755 0:0 directory',
      'plain 640 0:0 regular file',
      'sub 755 0:0 directory',
      'sub/tool 4755 0:0 regular file',
      'sub/empty 1777 0:0 directory',
      'sub/to-plain 777 0:0 symbolic link',
    ]);
    expect(
      await inside('cd /tmp/in; readlink sub/to-plain; readlink absolute; cat sub/to-plain; ls sub | wc -l'),
    ).to.equal('../plain\n/etc/hostname\nplain\n5');
    expect(await inside('cd /tmp/in; test plain -ef sub/same && stat -c %h plain')).to.equal('2');
  });

  it('keeps owners with -a, both ways', async () => {
    await makeTree('owned');
    await cp('-a', 'owned', 'cc:/tmp/owned');
    expect(await inside('stat -c %u:%g /tmp/owned/plain /tmp/owned/sub /tmp/owned/sub/tool')).to.equal(
      '1234:2345\n1234:2345\n0:0',
    );
    await cp('-a', 'cc:/tmp/owned', 'owned-back');
    expect(await lstat(path('owned-back/plain'))).to.include({ uid: 1234, gid: 2345 });
    expect((await lstat(path('owned-back/sub/tool'))).mode & 0o7777).to.equal(0o4755);
    await cp('cc:/tmp/owned', 'mine');
    expect(await lstat(path('mine/plain'))).to.include({ uid: 0, gid: 0 });
    expect((await lstat(path('mine/sub/tool'))).mode & 0o7777).to.equal(0o755);
  });

  it('gives a directory out as it went in', async () => {
    await makeTree('round');
    await cp('-a', 'round', 'cc:/var/round');
    await cp('-a', 'cc:/var/round', 'round-back');
    await execute('diff', ['-r', '--no-dereference', path('round'), path('round-back')]);
    expect(await readlink(path('round-back/absolute'))).to.equal('/etc/hostname');
    const [one, two] = [await lstat(path('round-back/plain')), await lstat(path('round-back/sub/same'))];
    expect(one.ino).to.equal(two.ino);
    expect((await lstat(path('round-back/sub/empty'))).mode & 0o7777).to.equal(0o1777);
    expect((await lstat(path('round/plain'))).mtimeMs).to.be.closeTo(one.mtimeMs, 1000);
  });

  it('lands where Docker says', async () => {
    await mkdir(path('dir'));
    await writeFile(path('dir/file'), 'f');
    await inside('mkdir -p /lands/there');
    await cp('dir', 'cc:/lands/new');
    await cp('dir', 'cc:/lands/there');
    await cp('dir/.', 'cc:/lands/there');
    await cp('dir/file', 'cc:/lands/renamed');
    await cp('dir/file', 'cc:/lands/there/');
    expect(await inside('cd /lands; find . | sort')).to.equal(
      [
        '.',
        './new',
        './new/file',
        './renamed',
        './there',
        './there/dir',
        './there/dir/file',
        './there/file',
      ].join('\n'),
    );
    await mkdir(path('out'));
    await cp('cc:/lands/new', 'out');
    await cp('cc:/lands/new/.', 'out');
    await cp('cc:/lands/renamed', 'out/again');
    expect((await readdir(path('out'))).toSorted()).to.deep.equal(['again', 'file', 'new']);
    const cases: [string[], RegExp][] = [
      [['dir', 'cc:/lands/renamed'], /cannot copy the directory/],
      [['dir/file', 'cc:/lands/nowhere/'], /\/lands\/nowhere\/? does not exist/],
      [['dir/file', 'cc:/lands/no/where'], /\/lands\/no/],
      [['nothing', 'cc:/lands'], /nothing/],
      [['cc:/lands/nothing', 'out'], /nothing/],
      [['cc:/lands/new', 'out/no/where'], /out\/no/],
      [['nobody:/x', 'out'], /No such container: nobody/],
      [['cc:/a', 'cc:/b'], /between two containers/],
    ];
    for (const [args, message] of cases) {
      const { code, stderr } = await host.hrun(['cp', ...args], { cwd: here });
      expect(code, args.join(' ')).to.equal(1);
      expect(stderr, args.join(' ')).to.match(message);
    }
  });

  it('follows a link only when asked to', async () => {
    await writeFile(path('target'), 'content');
    await symlink('target', path('pointer'));
    await inside('mkdir /links; echo inner > /links/target; ln -s target /links/pointer');
    await cp('pointer', 'cc:/links/as-link');
    await cp('-L', 'pointer', 'cc:/links/as-file');
    expect(await inside('cd /links; readlink as-link; cat as-file')).to.equal('target\ncontent');
    await cp('cc:/links/pointer', 'out-link');
    await cp('-L', 'cc:/links/pointer', 'out-file');
    expect(await readlink(path('out-link'))).to.equal('target');
    expect(await readFile(path('out-file'), 'utf8')).to.equal('inner\n');
  });

  it('copies to and from a container that does not run', async () => {
    await host.ok(['create', '--name', 'still', 'busybox', 'cat', '/etc/added']);
    await writeFile(path('added'), 'from outside\n');
    await cp('added', 'still:/etc/added');
    expect((await host.hrun(['start', '-a', 'still'])).stdout).to.equal('from outside\n');
    await cp('still:/etc/added', 'taken');
    expect(await readFile(path('taken'), 'utf8')).to.equal('from outside\n');
    await host.ok(['rm', 'still']);
  });

  it('streams an archive with -', async () => {
    await mkdir(path('streamed'));
    await writeFile(path('streamed/one'), '1');
    const { stdout: archive } = await execute('tar', ['-C', here, '-c', 'streamed'], { encoding: 'buffer' });
    await host.ok(['cp', '-', 'cc:/tmp'], { input: archive });
    expect(await inside('cat /tmp/streamed/one')).to.equal('1');
    const file = path('out.tar');
    await execute('sh', ['-c', '"$0" cp cc:/tmp/streamed - > "$1"', hrunPath, file], { env: host.env });
    expect((await execute('tar', ['-tf', file])).stdout).to.equal('streamed/\nstreamed/one\n');
  });
});
