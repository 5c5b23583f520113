import { execFile } from 'node:child_process';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };

/** Runs a tool of the host to its end; its stdout. */
export async function tool(program: string, ...args: readonly string[]): Promise<string> {
  return (await execute(program, args, { env })).stdout.trim();
}

/** A raw disk with an empty file system. */
export async function makeDisk(path: string, fs: 'ext4' | 'xfs' = 'ext4', sizeMiB = 64): Promise<string> {
  await writeFile(path, '', { flag: 'wx' });
  await truncate(path, sizeMiB * 1024 * 1024);
  await (fs === 'ext4' ? tool('mkfs.ext4', '-q', '-F', path) : tool('mkfs.xfs', '-q', path));
  return path;
}

/** An EROFS with one file. */
export async function makeErofs(path: string, content: string): Promise<string> {
  await mkdir(`${path}.tree`);
  await writeFile(`${path}.tree/file`, content);
  await tool('mkfs.erofs', '--quiet', path, `${path}.tree`);
  return path;
}
