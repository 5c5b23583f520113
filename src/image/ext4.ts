import { type ChildProcess, spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { errnoOf, HrunError } from '../base/errors.ts';
import { printable } from '../base/text.ts';

const maxErrorBytes = 4096;

export interface Ext4Shape {
  readonly sizeBytes: number;
  readonly label: string;
  /** Size of the journal; undefined: none, for a disk that is thrown away when it was not finished. */
  readonly journalMiB?: number;
  /** Bytes of the disk for each inode; undefined: mke2fs's own ratio. */
  readonly bytesPerInode?: number;
  /** For what is kept for long: checksums, backups of the superblock, room to grow while mounted. */
  readonly keep?: boolean;
}

/**
 * Makes an empty ext4 in a new sparse file: unless asked for no checksums of metadata, which take a fifth of the time of
 * unpacking under TCG; inode tables and journal left to the kernel; no lost+found, which no image has.
 * @throws HrunError INTERNAL when e2fsprogs is missing or fails; system errors of the file as they are
 */
export async function makeExt4(
  path: string,
  { sizeBytes, label, journalMiB, bytesPerInode, keep = false }: Ext4Shape,
  signal: AbortSignal,
): Promise<void> {
  {
    await using file = await open(path, 'wx', 0o600);
    await file.truncate(sizeBytes);
  }
  // no backups of the superblock, and the metadata of all groups together: an empty one is copied in four pieces
  const features = keep
    ? 'resize_inode,metadata_csum,sparse_super'
    : '^resize_inode,^metadata_csum,uninit_bg,sparse_super2';
  const shape = [
    ...(journalMiB === undefined
      ? ['-O', `${features},^has_journal`]
      : ['-O', features, '-J', `size=${journalMiB}`]),
    ...(bytesPerInode === undefined ? [] : ['-i', String(bytesPerInode)]),
    ...(keep ? [] : ['-G', '4096']),
    ...['-m', '0', '-L', label],
    ...[
      '-E',
      `${keep ? '' : 'num_backup_sb=0,'}nodiscard,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0`,
    ],
  ];
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
