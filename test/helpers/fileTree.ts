import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, type Stats } from 'node:fs';
import { lstat, mkdir, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { temporaryDirectory } from './tempDir.ts';

const run = promisify(execFile);

/**
 * What a tree holds, one line for each path: type, mode, owner, time, size and hash, target, device, the other names of
 * the same file, extended attributes. Names are bytes, shown as latin1.
 */
export async function fileTree(root: string): Promise<ReadonlyMap<string, string>> {
  const attributes = await extendedAttributes(root);
  const names = new Map<number, string>();
  const lines = new Map<string, string>();
  for (const path of await pathsBelow(root, '.')) {
    const bytes = Buffer.from(`${root}/${path}`, 'latin1');
    const stat = await lstat(bytes);
    const first = names.get(stat.ino) ?? path;
    names.set(stat.ino, first);
    const mode = stat.mode.toString(8);
    const parts = [
      mode,
      `${stat.uid}:${stat.gid}`,
      Math.floor(stat.mtimeMs / 1000),
      await content(bytes, stat),
    ];
    if (stat.nlink > 1 && !stat.isDirectory()) parts.push(`${stat.nlink} names, as ${first}`);
    lines.set(path, [...parts, ...(attributes.get(path) ?? [])].join(' '));
  }
  return lines;
}

/** What differs between two trees, one line for each path; empty when they are equal. */
export function treeDifferences(
  one: ReadonlyMap<string, string>,
  other: ReadonlyMap<string, string>,
): readonly string[] {
  const paths = [...new Set([...one.keys(), ...other.keys()])].sort();
  return paths
    .filter((path) => one.get(path) !== other.get(path))
    .map((path) => `${path}: ${one.get(path) ?? 'missing'} | ${other.get(path) ?? 'missing'}`);
}

/** Mounts the disk of an image for reading. */
export async function mountDisk(diskPath: string): Promise<{ readonly path: string } & AsyncDisposable> {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await temporaryDirectory());
  const path = join(directory.path, 'disk');
  await mkdir(path);
  await run('mount', ['-t', 'ext4', '-o', 'ro,loop,noload', diskPath, path]);
  undo.defer(async () => void (await run('umount', [path])));
  const owned = undo.move();
  return { path, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function pathsBelow(root: string, path: string): Promise<string[]> {
  const found = [path];
  const entries = await readdir(Buffer.from(`${root}/${path}`, 'latin1'), {
    encoding: 'latin1',
    withFileTypes: true,
  });
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const below = `${path}/${entry.name}`;
    if (entry.isDirectory()) found.push(...(await pathsBelow(root, below)));
    else found.push(below);
  }
  return found;
}

async function content(path: Buffer, stat: Stats): Promise<string> {
  if (stat.isSymbolicLink()) return `-> ${(await readlink(path, 'buffer')).toString('latin1')}`;
  if (stat.isCharacterDevice() || stat.isBlockDevice()) return `device ${stat.rdev}`;
  if (!stat.isFile()) return '';
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return `${stat.size} ${hash.digest('hex')}`;
}

/** By path; `getfattr` shows bytes that are not printable in octal. */
async function extendedAttributes(root: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const options = ['--recursive', '--physical', '--no-dereference', '--dump', '--match=-', '--encoding=hex'];
  const { stdout } = await run('getfattr', [...options, '.'], {
    cwd: root,
    encoding: 'latin1',
    maxBuffer: 2 ** 28,
  });
  const found = new Map<string, readonly string[]>();
  for (const block of stdout.split('\n\n')) {
    const [name = '', ...values] = block.split('\n').filter((line) => line !== '');
    const path = name
      .replace('# file: ', '')
      .replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
    if (path !== '') found.set(path === '.' ? path : `./${path.replace(/^\.\//, '')}`, values.sort());
  }
  return found;
}
