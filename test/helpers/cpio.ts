/** One entry of an initramfs. */
export interface CpioEntry {
  readonly name: string;
  /** With the file's type, as in stat(2). */
  readonly mode: number;
  readonly data?: Uint8Array;
  /** Major and minor number of a device. */
  readonly device?: readonly [number, number];
}

/** An uncompressed cpio archive (newc), as the kernel unpacks. */
export function cpio(entries: readonly CpioEntry[]): Buffer {
  const all = [...entries, { name: 'TRAILER!!!', mode: 0 }];
  return Buffer.concat(all.map((entry, index) => member(entry, index + 1)));
}

function member({ name, mode, data = new Uint8Array(), device = [0, 0] }: CpioEntry, inode: number): Buffer {
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, ...device, name.length + 1, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}\0`;
  return Buffer.concat([padded(Buffer.from(header)), padded(Buffer.from(data))]);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}

/** An initramfs whose init is the given machine code (x86_64, position independent), with a console. */
export function initramfsWith(code: Uint8Array): Buffer {
  return cpio([
    { name: 'dev', mode: 0o40755 },
    { name: 'dev/console', mode: 0o20600, device: [5, 1] },
    { name: 'init', mode: 0o100755, data: tinyElf(code) },
  ]);
}

/** A static program that is one page of code. */
function tinyElf(code: Uint8Array): Buffer {
  const base = 0x400000;
  const headerBytes = 64 + 56;
  const elf = Buffer.alloc(headerBytes);
  Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]).copy(elf);
  elf.writeUInt16LE(2, 16); // ET_EXEC
  elf.writeUInt16LE(62, 18); // EM_X86_64
  elf.writeUInt32LE(1, 20);
  elf.writeBigUInt64LE(BigInt(base + headerBytes), 24); // entry
  elf.writeBigUInt64LE(64n, 32); // program headers
  elf.writeUInt16LE(64, 52);
  elf.writeUInt16LE(56, 54);
  elf.writeUInt16LE(1, 56);
  elf.writeUInt32LE(1, 64); // PT_LOAD
  elf.writeUInt32LE(5, 68); // read, execute
  elf.writeBigUInt64LE(BigInt(base), 80);
  elf.writeBigUInt64LE(BigInt(base), 88);
  elf.writeBigUInt64LE(BigInt(headerBytes + code.length), 96);
  elf.writeBigUInt64LE(BigInt(headerBytes + code.length), 104);
  elf.writeBigUInt64LE(4096n, 112);
  return Buffer.concat([elf, code]);
}

/** pause() for ever. */
export const sleepForEver = Uint8Array.of(0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7);

/** write(1, own code, 64) for ever. */
export const printForEver = Uint8Array.of(
  ...[0xb8, 1, 0, 0, 0], // mov eax, 1
  ...[0xbf, 1, 0, 0, 0], // mov edi, 1
  ...[0x48, 0x8d, 0x35, 0x0b, 0, 0, 0], // lea rsi, [rip+11]
  ...[0xba, 64, 0, 0, 0], // mov edx, 64
  ...[0x0f, 0x05], // syscall
  ...[0xeb, 0xe6], // back to the start
  ...Buffer.from('\x1b[2J\xff\0 this guest never stops to talk, and not in a nice way at all..\n', 'latin1'),
);
