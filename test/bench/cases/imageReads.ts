import { execFile } from 'node:child_process';
import { copyFile, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { temporaryDirectory } from '../../helpers/tempDir.ts';
import { alternate, type Bench, type Group } from '../bench.ts';

const execute = promisify(execFile);
const fileMiB = 256;
const image = 'bench-reads';
const dd = ['if=/data', 'of=/dev/null', 'bs=1M'];

export const readCases = { guest: 'in a container', host: 'the same file on the host' } as const;

/** A large file of an image, read by a container that has not read it before, and by the host. */
export const imageReads: Group = {
  name: 'read',
  about: `a file of ${fileMiB} MiB of an image, read once from its beginning`,
  async run(bench) {
    await using tree = await temporaryDirectory();
    await mkdir(join(tree.path, 'bin'));
    await copyFile('/bin/busybox', join(tree.path, 'bin/dd'));
    await writeRandom(join(tree.path, 'data'));
    const archive = join(tree.path, 'root.tar');
    await execute('tar', ['-C', tree.path, '-cf', archive, 'bin', 'data']);
    await bench.host.ok(['import', archive, image]);
    try {
      await alternate(imageReads.name, readCasesOf(bench, tree.path), bench);
    } finally {
      await bench.host.ok(['rmi', '-f', image]);
    }
  },
};

/** Samples are MB/s; both read what the host has in its page cache. */
function readCasesOf({ host, record }: Bench, directory: string) {
  const keep = (name: string, said: string) => {
    const speed = speedOf(said);
    record.add(imageReads.name, `${name}, throughput`, speed, 'MB/s', 'higher');
    return ((fileMiB * 1.048576) / speed) * 1000;
  };
  return [
    {
      name: readCases.guest,
      sample: async () =>
        keep(readCases.guest, (await host.hrun(['run', '--rm', image, '/bin/dd', ...dd])).stderr),
    },
    {
      name: readCases.host,
      sample: async () => {
        const onHost = [`if=${join(directory, 'data')}`, ...dd.slice(1)];
        return keep(readCases.host, (await execute('/bin/busybox', ['dd', ...onHost])).stderr);
      },
    },
  ];
}

/** From busybox's "268435456 bytes (256.0MB) copied, 0.058137 seconds, 4.3GB/s", which rounds. */
function speedOf(said: string): number {
  const [, bytes, seconds] = /^(\d+) bytes .*copied, ([\d.]+) seconds/m.exec(said) ?? [];
  if (bytes === undefined || seconds === undefined) throw new Error(`dd said: ${said}`);
  return Number(bytes) / 1e6 / Number(seconds);
}

/** What compresses to nothing could be left out anywhere on the way. */
async function writeRandom(path: string): Promise<void> {
  await using source = await open('/dev/urandom');
  await using file = await open(path, 'wx');
  const block = Buffer.alloc(2 ** 20);
  for (let written = 0; written < fileMiB; written += 1) {
    await source.read(block);
    await file.write(block);
  }
}
