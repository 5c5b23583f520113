import { execFile } from 'node:child_process';
import { copyFile, readdir, readFile, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { newVmId } from '../../src/base/ids.ts';
import { prepareTree } from '../../src/vmm/jail/tree.ts';
import { bootMicroVm } from '../../src/vmm/qemu/boot.ts';
import { findQemu } from '../../src/vmm/qemu/findQemu.ts';
import { testShape, testVmmDeps } from '../helpers/microvm.ts';
import { temporaryDirectory } from '../helpers/tempDir.ts';

const execute = promisify(execFile);
const soon = () => AbortSignal.timeout(60_000);

describe('the file system that QEMU sees', () => {
  async function request(treesDir: string, preloadPath?: string) {
    return { qemuPath: await findQemu(undefined, process.env.PATH ?? ''), preloadPath, treesDir };
  }

  it('holds QEMU, its libraries and ROMs, and no other name of the host', async () => {
    await using directory = await temporaryDirectory();
    const preloadPath = join(directory.path, 'preload.so');
    await copyFile('/lib/x86_64-linux-gnu/libc.so.6', preloadPath);
    const tree = await prepareTree(await request(join(directory.path, 'trees'), preloadPath), soon());
    const names = await readdir(tree.root);
    expect(names.toSorted()).to.deep.equal(['dev', 'lib', 'lib64', 'proc', 'usr']);
    expect(tree.preload).to.equal('/usr/lib/hrun-preload.so');
    for (const path of [
      tree.program,
      '/usr/lib/hrun-preload.so',
      '/usr/share/qemu/qboot.rom',
      '/dev',
      '/proc',
    ]) {
      const { mode } = await stat(join(tree.root, path));
      expect(mode & 0o022, path).to.equal(0);
    }
    const all = await readdir(tree.root, { recursive: true });
    expect(all.filter((name) => name.includes('hrun-test') || name.endsWith('preload.so'))).to.deep.equal([
      'usr/lib/hrun-preload.so',
    ]);
  });

  it('is made once by many, and anew when it is damaged or QEMU another', async () => {
    await using directory = await temporaryDirectory();
    const treesDir = join(directory.path, 'trees');
    const preloadPath = join(directory.path, 'preload.so');
    await copyFile('/lib/x86_64-linux-gnu/libc.so.6', preloadPath);
    const asked = await request(treesDir, preloadPath);
    const made = await Promise.all([1, 2, 3].map(() => prepareTree(asked, soon())));
    expect(new Set(made.map(({ root }) => root)).size).to.equal(1);
    expect(await readdir(treesDir)).to.have.length(1);
    // another file of the same name is another tree, and what nothing fits any more goes
    await utimes(preloadPath, 1, 1);
    await writeFile(join(treesDir, 'new-left'), '');
    await utimes(join(treesDir, 'new-left'), 1, 1);
    const next = await prepareTree(asked, soon());
    expect(next.root).not.to.equal(made[0]?.root);
    expect(await readdir(treesDir)).to.have.length(1);
    await truncate(join(next.root, '/usr/share/qemu/qboot.rom'), 1);
    // as the next daemon, which has not looked at it yet
    const again: string = '../../src/vmm/jail/tree.ts?again';
    const fresh = (await import(again)) as { readonly prepareTree: typeof prepareTree };
    const mended = await fresh.prepareTree(asked, soon());
    expect(mended.root).to.equal(next.root);
    const rom = '/usr/share/qemu/qboot.rom';
    expect(await readFile(join(mended.root, rom))).to.deep.equal(await readFile(rom));
  });

  it('that has no room is told as such, and leaves nothing', async () => {
    await using directory = await temporaryDirectory();
    await execute('mount', ['-t', 'tmpfs', '-o', 'size=5m,mode=0700', 'small', directory.path]);
    try {
      const deps = await testVmmDeps();
      const treesDir = join(directory.path, 'trees');
      const failure = await bootMicroVm(
        { id: newVmId(), runDir: directory.path, shape: testShape },
        { ...deps, jail: { ...deps.jail, treesDir } },
        soon(),
      ).catch((error: unknown) => error);
      expect(failure).to.have.property('code', 'DISK_FULL');
      expect(failure).to.have.property('message').that.includes(treesDir);
      expect(await readdir(treesDir)).to.deep.equal([]);
    } finally {
      await execute('umount', [directory.path]);
    }
  });

  it('is not made of a script', async () => {
    await using directory = await temporaryDirectory();
    const script = join(directory.path, 'qemu');
    await writeFile(script, '#!/bin/sh\n', { mode: 0o755 });
    const failure = await prepareTree(
      { qemuPath: script, preloadPath: undefined, treesDir: join(directory.path, 'trees') },
      soon(),
    ).catch((error: unknown) => error);
    expect(failure).to.have.property('message').that.includes(script);
    expect(await readdir(join(directory.path, 'trees'))).to.deep.equal([]);
  });
});
