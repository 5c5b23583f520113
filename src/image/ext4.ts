import { type ChildProcess, spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { errnoOf, HrunError } from '../base/errors.ts';
import { printable } from '../base/text.ts';

const maxErrorBytes = 4096;

/**
 * Makes an empty ext4 in a new sparse file: no journal, since a disk that was not finished is thrown away; no checksums
 * of metadata, which take a fifth of the time of unpacking under TCG, while blobs have digests; inode tables left to the
 * kernel; one inode for 8 KiB; no lost+found, which no image has.
 * @throws HrunError INTERNAL when e2fsprogs is missing or fails; system errors of the file as they are
 */
export async function makeExt4(path: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
  {
    await using file = await open(path, 'wx', 0o600);
    await file.truncate(sizeBytes);
  }
  const extended = 'nodiscard,lazy_itable_init=1,root_owner=0:0';
  const features = '^has_journal,^resize_inode,^metadata_csum,uninit_bg';
  const shape = ['-O', features, '-i', '8192', '-m', '0', '-L', 'hrun-image', '-E', extended];
  await runTool('mkfs.ext4', ['-q', '-F', ...shape, path], signal);
  await runTool('debugfs', ['-w', '-R', 'rmdir lost+found', path], signal);
}

async function runTool(name: string, args: readonly string[], signal: AbortSignal): Promise<void> {
  const child: ChildProcess = spawn(name, args, {
    env: { PATH: '/usr/sbin:/sbin:/usr/bin:/bin' },
    stdio: ['ignore', 'ignore', 'pipe'],
    signal,
  });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    if (said.length < maxErrorBytes) said += chunk.toString('latin1');
  });
  const ended = Promise.withResolvers<number | null>();
  let failure: unknown;
  child.once('error', (error) => {
    failure = error;
    if (child.pid === undefined) ended.resolve(null);
  });
  child.once('close', ended.resolve);
  const code = await ended.promise;
  signal.throwIfAborted();
  if (errnoOf(failure) === 'ENOENT') {
    throw new HrunError('INTERNAL', `${name} is missing`, { cause: failure, hint: 'install e2fsprogs' });
  }
  if (code !== 0) {
    const words = printable(said.trim() || `it ended with status ${code}`, 300);
    throw new HrunError('INTERNAL', `${name} failed: ${words}`, { cause: failure });
  }
}
