import { chmod, mkdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { createDirectories, findDist, pathsFrom, privateDirectory } from '../../../src/base/paths.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

describe('paths', () => {
  it('are the system places for root', () => {
    expect(pathsFrom({}, 0)).to.include({
      root: '/var/lib/hrun',
      socket: '/run/hrun/hrund.sock',
      configFile: '/etc/hrun/config.json',
    });
  });

  it('follow XDG for a user', () => {
    const paths = pathsFrom({ HOME: '/home/u', XDG_RUNTIME_DIR: '/run/user/7' }, 7);
    expect(paths).to.include({
      root: '/home/u/.local/share/hrun',
      run: '/run/user/7/hrun',
      configFile: '/home/u/.config/hrun/config.json',
    });
  });

  it('can each be moved', () => {
    const paths = pathsFrom({ HRUN_ROOT: '/a/', HRUN_RUN: '/b', HRUN_CONFIG: '/c.json' }, 0);
    expect(paths).to.include({ containers: '/a/containers', vms: '/b/vms', configFile: '/c.json' });
  });

  it('refuse a relative one and one too long for sockets', () => {
    expect(() => pathsFrom({ HRUN_ROOT: 'here' }, 0)).to.throw('HRUN_ROOT must be an absolute path');
    expect(() => pathsFrom({ HRUN_RUN: `/${'x'.repeat(60)}` }, 0)).to.throw('too long');
  });

  it('are created private', async () => {
    await using directory = await temporaryDirectory();
    const paths = pathsFrom({ HRUN_ROOT: join(directory.path, 'r'), HRUN_RUN: join(directory.path, 'n') }, 0);
    await createDirectories(paths);
    for (const path of [paths.root, paths.run, paths.vms, paths.sessions]) {
      expect((await stat(path)).mode & 0o777).to.equal(0o700);
    }
  });

  it('are made private when they were not', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'open');
    await mkdir(path);
    await chmod(path, 0o755);
    await privateDirectory(path);
    expect((await stat(path)).mode & 0o777).to.equal(0o700);
  });

  it('are never a link or a file', async () => {
    await using directory = await temporaryDirectory();
    await symlink(directory.path, join(directory.path, 'link'));
    await writeFile(join(directory.path, 'file'), '');
    for (const name of ['link', 'file']) {
      const outcome = await privateDirectory(join(directory.path, name)).catch(
        (error: Error) => error.message,
      );
      expect(outcome).to.include('directory');
    }
  });
});

describe('the guest files', () => {
  it('are found beside the code and one up', async () => {
    await using directory = await temporaryDirectory();
    await mkdir(join(directory.path, 'libexec'));
    await mkdir(join(directory.path, 'guest'));
    await writeFile(join(directory.path, 'guest/initramfs.cpio'), '');
    expect((await findDist(join(directory.path, 'libexec'))).kernelPath).to.equal(
      join(directory.path, 'guest/vmlinux'),
    );
    expect((await findDist(directory.path)).kernelPath).to.equal(join(directory.path, 'guest/vmlinux'));
  });
});
