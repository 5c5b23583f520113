import { createHash } from 'node:crypto';
import { open, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { makeExt4 } from '../../src/image/ext4.ts';
import { dataRanges } from '../../src/sys/sparseCopy.ts';
import { cpio } from '../helpers/cpio.ts';
import { type HrunHost, newHrunHost } from '../helpers/hrunHost.ts';
import { bootTestVm } from '../helpers/microvm.ts';
import { temporaryDirectory } from '../helpers/tempDir.ts';

const mebibyte = 2 ** 20;

/** Of all that is in a sparse file. */
async function sha256Of(path: string): Promise<string> {
  await using file = await open(path, 'r');
  const hash = createHash('sha256');
  for (const { start, end } of dataRanges(file, (await file.stat()).size, path)) {
    const { buffer } = await file.read(Buffer.alloc(end - start), 0, end - start, start);
    hash.update(`${start}:`).update(buffer);
  }
  return hash.digest('hex');
}

/** An initramfs of busybox whose init is `script`: root of the whole guest, with nothing of the agent around it. */
async function initramfsRunning(script: string): Promise<Buffer> {
  const directory = (name: string) => ({ name, mode: 0o40755 });
  return cpio([
    ...['bin', 'dev', 'proc', 'sys', 'mnt'].map(directory),
    { name: 'dev/console', mode: 0o20600, device: [5, 1] },
    { name: 'bin/busybox', mode: 0o100755, data: await readFile('/usr/bin/busybox') },
    {
      name: 'init',
      mode: 0o100755,
      data: Buffer.from(
        [
          '#!/bin/busybox sh',
          '/bin/busybox --install -s /bin',
          'export PATH=/bin',
          'mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev',
          'exec > /dev/console 2>&1',
          script,
          'echo all is done; while :; do sleep 1000; done',
        ].join('\n'),
      ),
    },
  ]);
}

describe('root of a guest, with its own kernel in hand', () => {
  it('writes to its own disk only', async () => {
    await using directory = await temporaryDirectory();
    const path = (name: string) => join(directory.path, name);
    for (const name of ['image', 'scratch'])
      await makeExt4(
        path(name),
        { sizeBytes: 16 * mebibyte, label: name, keep: true },
        AbortSignal.timeout(30_000),
      );
    const script = [
      'for disk in /sys/block/*; do name=$(basename $disk); case $name in ram*|loop*) continue;; esac',
      'echo 0 > $disk/ro; blockdev --setrw /dev/$name',
      'mknod /mnt/node b $(tr : " " < $disk/dev); for node in /mnt/node /dev/$name; do',
      'dd if=/dev/zero of=$node bs=4096 count=64 conv=fsync && echo wrote $name; done; rm /mnt/node',
      'mount -o rw /dev/$name /mnt && echo mounted $name && touch /mnt/x; umount /mnt; done; sync',
    ].join('\n');
    await writeFile(path('initramfs'), await initramfsRunning(script));
    const before = { image: await sha256Of(path('image')), scratch: await sha256Of(path('scratch')) };
    {
      await using guest = await bootTestVm({
        shape: { initramfsPath: path('initramfs') },
        imageDisk: { serial: 'image', path: path('image'), readonly: true },
        scratchDisk: { serial: 'scratch', path: path('scratch'), readonly: false },
      });
      const soon = AbortSignal.timeout(120_000);
      let said = '';
      while (!said.includes('all is done')) {
        said = await guest.vm.consoleTail(soon);
        await sleep(50, undefined, { signal: soon });
      }
      // it did try, and where it may it can
      expect(said).to.match(/wrote vd/);
    }
    expect(await sha256Of(path('image'))).to.equal(before.image);
    expect(await sha256Of(path('scratch'))).not.to.equal(before.scratch);
  });
});

describe('root of a container', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost({ config: { poolReady: 0 } });
    await host.ok(['run', '-d', '--name', 'other', 'busybox', 'sleep', '100000']);
  });
  afterEach(async () => {
    expect(await host.ok(['exec', 'other', 'echo', 'served'])).to.equal('served');
  });
  after(() => host[Symbol.asyncDispose]());

  const all = ['--cap-add', 'ALL'];

  it('cannot make a device of what is not its own, nor its image writable', async () => {
    const disks = join(host.root, 'images/disks');
    const [disk = ''] = await readdir(disks);
    const before = await sha256Of(join(disks, disk));
    const script = [
      'for disk in /sys/block/*; do name=$(basename $disk); mknod /tmp/$name b $(tr : " " < $disk/dev);',
      'dd if=/dev/zero of=/tmp/$name bs=4096 count=1 && echo wrote $name; done',
      'mount -o remount,rw /; echo x > /bin/busybox; echo y > /etc/passwd; echo end',
    ].join('\n');
    const { code, stdout } = await host.hrun(['run', '--rm', ...all, 'busybox', 'sh', '-c', script]);
    expect({ code, stdout }).to.deep.equal({ code: 0, stdout: 'end\n' });
    expect(await sha256Of(join(disks, disk))).to.equal(before);
    expect(await host.ok(['run', '--rm', 'busybox', 'head', '-c', '5', '/etc/passwd'])).to.equal('root:');
  });

  it('forks without end in its own guest', async () => {
    const script = 'f() { f | f & }; f; while :; do :; done';
    await host.ok(['run', '-d', '--name', 'bomb', '--pids-limit', '200', 'busybox', 'sh', '-c', script]);
    expect(await host.ok(['exec', 'other', 'echo', 'served'])).to.equal('served');
    await host.ok(['rm', '-f', 'bomb']);
  });

  it('takes no more memory than it was given', async () => {
    const hog = 'x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done';
    await host.hrun(['run', '--name', 'hog', '-m', '64m', 'busybox', 'sh', '-c', hog]);
    expect(await host.ok(['inspect', '-f', '{{.State.OOMKilled}} {{.State.ExitCode}}', 'hog'])).to.equal(
      'true 137',
    );
    await host.ok(['rm', 'hog']);
  });

  it('fills its own disk only', async () => {
    const fill = 'dd if=/dev/zero of=/fill bs=1M; rm /fill; echo end';
    const { stdout, stderr } = await host.hrun([
      ...['run', '--name', 'filler', '--storage-size', '64m', 'busybox', 'sh', '-c', fill],
    ]);
    expect(stdout).to.equal('end\n');
    expect(stderr).to.match(/No space left/);
    const id = await host.ok(['inspect', '-f', '{{.Id}}', 'filler']);
    const { blocks } = await stat(join(host.root, 'containers', id, 'scratch.raw'));
    expect(blocks * 512).to.be.at.most(64 * mebibyte);
    await host.ok(['rm', 'filler']);
  });

  it('sets the clock of nobody else', async () => {
    const year = (text: string) => Number(text.trim());
    const { stdout } = await host.hrun([
      ...[
        'run',
        '--rm',
        ...all,
        'busybox',
        'sh',
        '-c',
        'date -s "2001-01-01 00:00:00" > /dev/null; date +%Y',
      ],
    ]);
    expect(year(stdout)).to.be.greaterThan(2000);
    const now = new Date().getUTCFullYear();
    expect(year(await host.ok(['exec', 'other', 'date', '+%Y']))).to.equal(now);
    expect(year(await host.ok(['run', '--rm', 'busybox', 'date', '+%Y']))).to.equal(now);
  });

  it('ends its guest as often as it likes, which is told', async () => {
    for (let round = 0; round < 5; round += 1) {
      await host.ok(['run', '-d', '--name', 'crasher', 'busybox', 'sleep', '100000']);
      await host.hrun([
        'exec',
        '--privileged',
        'crasher',
        'sh',
        '-c',
        'mount -o remount,rw /proc/sys; mount -t proc p /tmp; echo c > /tmp/sysrq-trigger',
      ]);
      if ((await host.ok(['inspect', '-f', '{{.State.Status}}', 'crasher'])) === 'exited') {
        expect(await host.ok(['wait', 'crasher'])).to.equal('137');
        expect(await host.ok(['inspect', '-f', '{{.State.Error}}', 'crasher'])).to.match(/panic|reset/);
      }
      await host.ok(['rm', '-f', 'crasher']);
    }
  });
});
