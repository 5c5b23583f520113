import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { makeDisk, makeErofs, tool } from '../../helpers/disks.ts';
import { tracesOf } from '../../helpers/hostTraces.ts';
import { type HrunHost, newHrunHost } from '../../helpers/hrunHost.ts';

describe('a disk of the user', () => {
  let host: HrunHost;
  let raw: string;
  const at = (name: string) => join(host.directory, name);

  before(async () => {
    host = await newHrunHost({ config: { poolReady: 0 } });
    raw = await makeDisk(at('data.raw'));
    await out(`type=disk,src=${raw},dst=/data`, 'echo kept > /data/file');
  });
  after(() => host[Symbol.asyncDispose]());

  const run = (mount: string, script: string, ...flags: string[]) =>
    host.hrun(['run', '--rm', ...flags, '--mount', mount, 'busybox', 'sh', '-c', script]);

  async function out(mount: string, script: string): Promise<string> {
    const { code, stdout, stderr } = await run(mount, script);
    if (code !== 0) throw new Error(`exit ${code}: ${stderr}`);
    return stdout.trimEnd();
  }

  it('keeps what is written to it, and costs no boot', async () => {
    const mount = `type=disk,src=${raw},dst=/data`;
    const timing = (await run(mount, 'echo more > /data/more', '--timing')).stderr;
    expect(timing).to.match(/launch: (pooled|cloned)/);
    expect(await out(mount, 'cat /data/more; grep " /data " /proc/mounts | cut -d" " -f3')).to.equal(
      'more\next4',
    );
  });

  it('was unmounted cleanly, also by rm -f', async () => {
    const journal = async () => (await tool('dumpe2fs', '-h', raw)).includes('needs_recovery');
    expect(await journal()).to.equal(false);
    await host.ok([
      'run',
      '-d',
      '--name',
      'killed',
      '--mount',
      `type=disk,src=${raw},dst=/data`,
      'busybox',
      'sleep',
      '100',
    ]);
    await host.ok(['exec', 'killed', 'sh', '-c', 'echo unsynced > /data/late']);
    await host.ok(['rm', '-f', 'killed']);
    expect(await journal()).to.equal(false);
    expect(await out(`type=disk,src=${raw},dst=/data,ro`, 'cat /data/late')).to.equal('unsynced');
  });

  it('that is read-only stays as it is, whatever root in the guest does', async () => {
    const before = createHash('sha256')
      .update(await readFile(raw))
      .digest('hex');
    const script = [
      'echo x > /data/x',
      'mount -o remount,rw /data',
      'mknod /tmp/d b 8 0 && dd if=/dev/zero of=/tmp/d bs=4096 count=1',
      'cat /data/file',
    ].join('; ');
    const { stdout } = await run(`type=disk,src=${raw},dst=/data,readonly`, script, '--cap-add', 'ALL');
    expect(stdout).to.equal('kept\n');
    expect(
      createHash('sha256')
        .update(await readFile(raw))
        .digest('hex'),
    ).to.equal(before);
  });

  it('may be a qcow2', async () => {
    const image = at('data.qcow2');
    await tool('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, image);
    const mount = `type=disk,src=${image},dst=/data`;
    expect(await out(mount, 'cat /data/file; echo q > /data/q')).to.equal('kept');
    expect(await out(`${mount},ro`, 'cat /data/q')).to.equal('q');
  });

  it('may hold xfs, told or found', async () => {
    const source = await makeDisk(at('files.xfs.raw'), 'xfs', 512);
    const read = 'cat /data/file; grep " /data " /proc/mounts | cut -d" " -f3';
    expect(await out(`type=disk,src=${source},dst=/data,fs=xfs`, `echo kept > /data/file; ${read}`)).to.equal(
      'kept\nxfs',
    );
    expect(await out(`type=disk,src=${source},dst=/data`, read)).to.equal('kept\nxfs');
  });

  it('may hold erofs, told or found', async () => {
    const path = await makeErofs(at('erofs.raw'), 'erofs');
    expect(await out(`type=disk,src=${path},dst=/data`, 'cat /data/file')).to.equal('erofs');
    expect(await out(`type=disk,src=${path},dst=/data,fs=erofs,ro`, 'cat /data/file')).to.equal('erofs');
  });

  it('may be a block device, which nobody else claims meanwhile', async () => {
    const device = await tool('losetup', '--find', '--show', await makeDisk(at('loop.raw')));
    try {
      const mount = `type=disk,src=${device},dst=/data`;
      expect(await out(mount, 'echo block > /data/b; cat /data/b')).to.equal('block');
      await host.ok(['run', '-d', '--name', 'holder', '--mount', mount, 'busybox', 'sleep', '100']);
      const second = await run(mount, 'true');
      expect([second.code, second.stderr]).to.deep.equal([125, `hrun: ${device}: resource busy or locked\n`]);
      await mkdir(at('mnt'));
      const mounted = await tool('mount', device, at('mnt')).catch(() => 'refused');
      expect(mounted).to.equal('refused');
      await host.ok(['rm', '-f', 'holder']);
    } finally {
      await tool('losetup', '--detach', device);
    }
  });

  it('has one writer, also when the daemon died', async () => {
    const mount = `type=disk,src=${raw},dst=/data`;
    await host.ok(['run', '-d', '--name', 'writer', '--mount', mount, 'busybox', 'sleep', '1000']);
    const before = await tracesOf(host);
    const refused = async (options: string) => {
      const { code, stderr } = await run(`${mount}${options}`, 'true');
      expect(code).to.equal(125);
      expect(stderr).to.match(/^hrun: the disk .*data\.raw is in use by container writer\nhint: [^\n]*\n$/);
    };
    await refused('');
    await refused(',ro');
    process.kill(await host.daemonPid(), 'SIGKILL');
    await refused('');
    expect(await tracesOf(host)).to.deep.equal(before);
    await host.ok(['rm', '-f', 'writer']);
    expect(await out(mount, 'cat /data/file')).to.equal('kept');
  });

  it('has any number of readers', async () => {
    const mount = `type=disk,src=${raw},dst=/data,ro`;
    await host.ok(['run', '-d', '--name', 'reader', '--mount', mount, 'busybox', 'sleep', '1000']);
    expect(await out(mount, 'cat /data/file')).to.equal('kept');
    expect((await run(`type=disk,src=${raw},dst=/data`, 'true')).stderr).to.contain(
      'is in use by container reader',
    );
    await host.ok(['rm', '-f', 'reader']);
  });

  it('is the file that the user named: a link made later is not followed', async () => {
    const [disk, link] = [await makeDisk(at('own.raw')), at('link.raw')];
    await symlink(disk, link);
    await host.ok([
      'create',
      '--name',
      'linked',
      '--mount',
      `type=disk,src=${link},dst=/data`,
      'busybox',
      'true',
    ]);
    expect(await host.ok(['inspect', '-f', '{{(index .Mounts 0).Source}}', 'linked'])).to.equal(disk);
    await host.ok(['start', 'linked']);
    await host.ok(['wait', 'linked']);
    await rename(disk, at('moved.raw'));
    await symlink(at('moved.raw'), disk);
    const { code, stderr } = await host.hrun(['start', 'linked']);
    expect([code, stderr]).to.deep.equal([1, `hrun: ${disk}: too many symbolic links encountered\n`]);
    await host.ok(['rm', 'linked']);
  });

  it('that cannot be had is told in a line, and leaves nothing', async () => {
    await writeFile(at('empty.raw'), '');
    await writeFile(at('zeroes.raw'), '');
    await truncate(at('zeroes.raw'), 1024 * 1024);
    await tool('mkfifo', at('fifo.raw'));
    await tool(
      'qemu-img',
      'create',
      '-q',
      '-f',
      'qcow2',
      '-F',
      'raw',
      '-b',
      '/etc/shadow',
      at('backed.qcow2'),
      '64M',
    );
    await tool(
      'qemu-img',
      'create',
      '-q',
      '-f',
      'qcow2',
      '-o',
      `data_file=${at('outside')}`,
      at('external.qcow2'),
      '64M',
    );
    await tool('qemu-img', 'create', '-q', '-f', 'qcow2', at('blank.qcow2'), '64M');
    await writeFile(at('fake.qcow2'), 'json:{"driver":"raw"}');
    const damaged = await makeDisk(at('damaged.raw'));
    await tool('dd', 'if=/dev/urandom', `of=${damaged}`, 'bs=1024', 'seek=1', 'count=1', 'conv=notrunc');
    const before = await tracesOf(host);
    const cases: [string, RegExp][] = [
      ['src=none.raw', /must be absolute/],
      ['src=/none.raw', /disk source path does not exist: \/none\.raw/],
      [`src=${host.directory}`, /is neither a regular file nor a block device/],
      ['src=/dev/null', /is neither a regular file nor a block device/],
      [`src=${at('fifo.raw')}`, /is neither a regular file nor a block device/],
      [`src=${at('backed.qcow2')}`, /has a backing file, which is not supported/],
      [`src=${at('external.qcow2')}`, /has an external data file, which is not supported/],
      [`src=${at('fake.qcow2')}`, /is no qcow2 image/],
      [
        `src=${at('blank.qcow2')}`,
        /cannot mount the disk for \/data: it holds neither ext4 nor xfs nor erofs/,
      ],
      [
        `src=${at('zeroes.raw')}`,
        /cannot mount the disk for \/data: it holds neither ext4 nor xfs nor erofs/,
      ],
      [`src=${at('empty.raw')}`, /cannot mount the disk for \/data: it holds neither ext4 nor xfs nor erofs/],
      [`src=${damaged}`, /cannot mount the disk for \/data/],
      [`src=${raw},fs=xfs`, /cannot mount the disk for \/data/],
    ];
    for (const [source, message] of cases) {
      const { code, stderr, stdout } = await run(`type=disk,${source},dst=/data`, 'true');
      expect([code, stdout], source).to.deep.equal([125, '']);
      expect(stderr, source)
        .to.match(message)
        .and.match(/^hrun: [^\n]*\n(hint: [^\n]*\n)?$/);
    }
    expect(await tracesOf(host)).to.deep.equal(before);
  });
});
