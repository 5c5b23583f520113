import { execFile } from 'node:child_process';
import { chmod, chown, copyFile, link, lutimes, mkdir, open, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { type TestEntry, tarOf, tarOfDirectory } from './images.ts';

const run = promisify(execFile);

/** All that is hard to keep in a layer, as GNU tar writes it. Needs root. */
export async function oddLowerLayer(tree: string): Promise<Buffer> {
  const at = (path: string | Buffer) => Buffer.concat([Buffer.from(`${tree}/`), Buffer.from(path)]);
  const file = async (path: string | Buffer, content = String(path)) => {
    const target = at(path);
    await mkdir(dirname(target.toString()), { recursive: true });
    await writeFile(target, content);
    return target;
  };
  await mkdir(join(tree, 'bin'), { recursive: true });
  for (const name of ['busybox', 'busybox.capable', 'busybox.setuid']) {
    await copyFile('/bin/busybox', join(tree, 'bin', name));
  }
  await symlink('busybox', at('bin/sh'));

  for (const name of ['hidden', 'kept', 'back']) await file(`lower/${name}`);
  for (const name of ['x', 'y', 'deep/z', 'deep/own']) await file(`opaque/${name}`);
  await file('becomes-directory');
  await file('becomes-link/inside');
  await file('becomes-file/inside');
  await symlink('lower', at('becomes-directory-2'));

  await file('hard/one');
  for (const name of ['two', 'three', 'gone']) await link(at('hard/one'), at(`hard/${name}`));

  await file(`names/${'n'.repeat(255)}`);
  await file(`${'deep-directory/'.repeat(40)}file`);
  for (const name of ['ümläut-日本語', 'with space', '-dash', 'new\nline', 'back\\slash', '.hidden', '*'])
    await file(`names/${name}`);
  await file(Buffer.from('names/latin-\xff\xfe', 'latin1'));
  await symlink('t'.repeat(4000), at('names/long-target'));
  await symlink('/absolute/ünd dangling', at('names/dangling'));

  await mkdir(at('nodes'));
  await run('mknod', [join(tree, 'nodes/null-like'), 'c', '1', '3']);
  await run('mknod', [join(tree, 'nodes/far'), 'b', '259', '300000']);
  await run('mkfifo', ['-m', '640', join(tree, 'nodes/fifo')]);

  await chown(await file('owners/big'), 4_294_967_294, 2_000_000);
  await chown(await file('owners/seven'), 7, 8);
  await symlink('seven', at('owners/link'));
  await run('chown', ['-h', '9:10', join(tree, 'owners/link')]);
  await chmod(await file('modes/none'), 0);
  await mkdir(at('modes/sticky'));
  await chmod(at('modes/sticky'), 0o1777);
  await mkdir(at('modes/set-gid'));
  await chown(at('modes/set-gid'), 0, 55);
  await chmod(at('modes/set-gid'), 0o2775);
  await file('modes/set-gid/not-inherited');
  await chown(at('modes/set-gid/not-inherited'), 0, 0);
  await chmod(at('bin/busybox.setuid'), 0o4755);

  await file('sizes/empty', '');
  {
    await using sparse = await open(at('sizes/sparse'), 'w');
    await sparse.write('end', 5_000_000);
  }
  await file('sizes/odd', 'o'.repeat(1_234_567));

  await file('xattrs/file');
  await mkdir(at('xattrs/directory'));
  for (const name of ['file', 'directory']) {
    await run('setfattr', ['-n', 'user.test', '-v', '0x00ff0a', join(tree, 'xattrs', name)]);
  }
  await run('setfattr', ['-n', 'user.long', '-v', 'v'.repeat(3000), join(tree, 'xattrs/file')]);
  await run('setcap', ['cap_chown=ep', join(tree, 'bin/busybox.capable')]);

  await lutimes(at('sizes/odd'), 1_000_000_000.25, 1_000_000_000.25);
  await lutimes(at('names/dangling'), 5_000_000_000, 5_000_000_000);
  await lutimes(at('lower'), 1_234_567_890, 1_234_567_890);
  return await tarOfDirectory(tree);
}

/** Changes and removes what the lower layer has. */
export const oddUpperLayer: Buffer = tarOf([
  { name: './lower/.wh.hidden' },
  { name: './lower/.wh.back' },
  { name: './lower/back', content: 'back again' },
  { name: './lower/.wh.never-was' },
  // A name says what is in the layer before and after its marker.
  { name: './opaque/new', content: 'new' },
  { name: './opaque/.wh..wh..opq' },
  { name: './opaque/deep/own', content: 'own' },
  { name: './becomes-directory', type: 'Directory', mode: 0o750 },
  { name: './becomes-directory/inside', content: 'inside' },
  { name: './becomes-directory-2', type: 'Directory' },
  { name: './becomes-directory-2/only-here', content: 'here' },
  { name: './becomes-link', type: 'SymbolicLink', target: 'lower' },
  { name: './becomes-file', content: 'a file now', uid: 3, gid: 4 },
  { name: './hard/four', type: 'Link', target: './hard/one' },
  { name: './hard/.wh.gone' },
  { name: './hard/two', content: 'on its own now' },
  { name: './modes/sticky', type: 'Directory', mode: 0o700 },
  { name: './xattrs/file', content: 'without attributes now' },
] satisfies readonly TestEntry[]);
