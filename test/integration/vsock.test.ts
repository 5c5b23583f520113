import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { expect } from 'chai';
import { build } from 'esbuild';
import { backoff } from '../../src/base/backoff.ts';
import type { MicroVm } from '../../src/vmm/microVm.ts';
import { type CpioEntry, cpio } from '../helpers/cpio.ts';
import { bootTestVm, testShape } from '../helpers/microvm.ts';
import { temporaryDirectory } from '../helpers/tempDir.ts';

const libexec = resolve(import.meta.dirname, '../../dist/libexec');
/** What Node.js is linked with. */
const libraries = [
  'libdl.so.2',
  'libstdc++.so.6',
  'libm.so.6',
  'libgcc_s.so.1',
  'libpthread.so.0',
  'libc.so.6',
];

describe('AF_VSOCK', () => {
  it('carries the contract, here over the loopback inside a guest', async () => {
    await using directory = await temporaryDirectory();
    const initramfsPath = join(directory.path, 'vsock.cpio');
    // the kernel unpacks archives that follow each other onto each other
    const archives = [await readFile(testShape.initramfsPath), cpio(await guestFiles())];
    await writeFile(initramfsPath, Buffer.concat(archives));
    const kernelParameters = ['rdinit=/start', 'hrun.transport=vsock', 'hrun.vsock-loopback=1'];
    await using guest = await bootTestVm({ shape: { initramfsPath, memoryMiB: 768, kernelParameters } });
    const line = await consoleLine(guest.vm, 'VSOCK ', AbortSignal.timeout(120_000));
    expect(JSON.parse(line)).to.deep.equal({
      first: { protocol: 1, refused: 'HrunError' },
      second: { protocol: 1, refused: 'HrunError' },
      nobody: 'ECONNRESET',
    });
  });
});

async function consoleLine(vm: MicroVm, start: string, signal: AbortSignal): Promise<string> {
  for (const pauses = backoff(50, 500); ; ) {
    const lines = (await vm.consoleTail(signal)).split('\n');
    // the last one may be unfinished
    const found = lines.slice(0, -1).find((line) => line.startsWith(start));
    if (found !== undefined) return found.slice(start.length);
    await pauses.pause(signal).catch((cause: unknown) => {
      throw new Error(`the guest only said:\n${lines.join('\n')}`, { cause });
    });
  }
}

async function guestFiles(): Promise<CpioEntry[]> {
  const loader = '/lib64/ld-linux-x86-64.so.2';
  const files = [loader, ...libraries.map((name) => `/lib/x86_64-linux-gnu/${name}`)];
  const entries: CpioEntry[] = [
    { name: 'dev/null', mode: 0o20666, device: [1, 3] },
    { name: 'start', mode: 0o100755, data: Buffer.from('#!/busybox sh\n/node /test.mjs &\nexec /init\n') },
    { name: 'busybox', mode: 0o100755, data: await readFile('/usr/bin/busybox') },
    { name: 'node', mode: 0o100755, data: await readFile(join(libexec, 'node')) },
    { name: 'test.mjs', mode: 0o100644, data: await bundledScript() },
  ];
  for (const path of files) entries.push({ name: path.slice(1), mode: 0o100755, data: await readFile(path) });
  const modules = join(libexec, 'node_modules');
  for (const name of await readdir(modules, { recursive: true })) {
    const path = join(modules, name);
    if ((await stat(path)).isFile()) {
      entries.push({ name: `node_modules/${name}`, mode: 0o100644, data: await readFile(path) });
    }
  }
  return [...directoriesOf(entries), ...entries];
}

function directoriesOf(entries: readonly CpioEntry[]): CpioEntry[] {
  const names = new Set<string>();
  for (const { name } of entries) {
    for (let parent = dirname(name); parent !== '.'; parent = dirname(parent)) names.add(parent);
  }
  return [...names].sort().map((name) => ({ name, mode: 0o40755 }));
}

async function bundledScript(): Promise<Uint8Array> {
  const { outputFiles } = await build({
    entryPoints: [resolve(import.meta.dirname, '../helpers/vsockGuest.ts')],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    external: ['koffi'],
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
  });
  const [script] = outputFiles;
  if (script === undefined) throw new Error('esbuild wrote nothing');
  return script.contents;
}
