import { open } from 'node:fs/promises';
import { errnoOf, HrunError, messageOf } from '../base/errors.ts';

const elfMagic = Buffer.from('\x7fELF', 'latin1');
/** Offset of `e_machine` in an ELF header, and its value for x86-64 (elf(5)). */
const machineAt = 18;
const x86_64 = 62;

/**
 * Refuses, before anything boots, a `--kernel` that is no uncompressed kernel for this machine.
 * @throws HrunError INVALID_ARGUMENT naming the file
 */
export async function requireKernel(path: string): Promise<void> {
  const header = Buffer.alloc(machineAt + 2);
  let bytesRead: number;
  try {
    await using file = await open(path, 'r');
    ({ bytesRead } = await file.read(header, 0, header.length, 0));
  } catch (cause) {
    const why = errnoOf(cause) === 'EISDIR' ? 'it is a directory' : messageOf(cause);
    throw new HrunError('INVALID_ARGUMENT', `cannot read the kernel ${path}: ${why}`, { cause });
  }
  const isElf = bytesRead === header.length && header.subarray(0, 4).equals(elfMagic);
  if (!isElf || header.readUInt16LE(machineAt) !== x86_64) {
    throw new HrunError('INVALID_ARGUMENT', `${path} is no uncompressed x86-64 Linux kernel`, {
      hint: '--kernel takes a vmlinux with a PVH entry (CONFIG_PVH), not a bzImage',
    });
  }
}
