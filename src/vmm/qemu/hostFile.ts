import { closeSync, constants, fstatSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { HrunError, messageOf } from '../../base/errors.ts';
import { createMemfd } from '../../sys/memfd.ts';
import type { Disk } from '../microVm.ts';

/** A file that is open here; disposing closes it. */
export interface OpenFile extends Disposable {
  readonly fd: number;
  readonly sizeBytes: number;
}

/**
 * Opens the image of a disk for QEMU, which gets the descriptor and no path: a regular file that is no link, in the way
 * that the guest may use it.
 * @throws HrunError QEMU_FAILED naming the file
 */
export function openDisk({ path, readonly }: Disk): OpenFile {
  const access = readonly ? constants.O_RDONLY : constants.O_RDWR;
  // a pipe must not be waited for
  return openRegular(path, access | constants.O_NOFOLLOW | constants.O_NONBLOCK);
}

/**
 * Opens a file that QEMU opens once more, by its number and with an access right of its own: one that not everybody may
 * read is copied into memory for it.
 * @throws HrunError QEMU_FAILED naming the file
 */
export function openForReading(path: string): OpenFile {
  using undo = new DisposableStack();
  const file = undo.use(openRegular(path, constants.O_RDONLY | constants.O_NONBLOCK));
  if ((fstatSync(file.fd).mode & 0o004) !== 0 || process.geteuid?.() !== 0) {
    undo.move();
    return file;
  }
  // memfds are everybody's who has one
  const copy = createMemfd('hrun-boot');
  writeFileSync(copy.fd, readFileSync(file.fd));
  return { fd: copy.fd, sizeBytes: file.sizeBytes, [Symbol.dispose]: () => copy[Symbol.dispose]() };
}

function openRegular(path: string, flags: number): OpenFile {
  let fd: number;
  try {
    fd = openSync(path, flags);
  } catch (cause) {
    throw new HrunError('QEMU_FAILED', `QEMU cannot be given ${path}: ${messageOf(cause)}`, { cause });
  }
  const found = fstatSync(fd);
  if (found.isFile()) return { fd, sizeBytes: found.size, [Symbol.dispose]: () => closeSync(fd) };
  closeSync(fd);
  throw new HrunError('QEMU_FAILED', `QEMU cannot be given ${path}: it is no regular file`);
}
