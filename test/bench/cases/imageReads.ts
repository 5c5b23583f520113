import { execFile } from 'node:child_process';
import { copyFile, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { temporaryDirectory } from '../../helpers/tempDir.ts';
import { alternate, type Bench, type Group, timed } from '../bench.ts';

const execute = promisify(execFile);
const fileMiB = 256;
const image = 'bench-reads';
const copying = ['of=/dev/null', 'bs=1M'];
const shell = ['/bin/busybox', 'sh', '-c'];
const readInGuest = ['cat /proc/uptime', `dd if=/data ${copying.join(' ')} 2>/dev/null`, 'cat /proc/uptime']
  .map((command) => `/bin/busybox ${command}`)
  .join('; ');

export const readCases = { guest: 'in a container', host: 'the same file on the host' } as const;

/** A large file of an image, read by a container that has not read it before, and by the host. */
export const imageReads: Group = {
  name: 'read',
  about: `a file of ${fileMiB} MiB of an image, read once from its beginning`,
  async run(bench) {
    await using tree = await temporaryDirectory();
    await mkdir(join(tree.path, 'bin'));
    await copyFile('/bin/busybox', join(tree.path, 'bin/busybox'));
    await writeRandom(join(tree.path, 'data'));
    const archive = join(tree.path, 'root.tar');
    await execute('tar', ['-C', tree.path, '-cf', archive, 'bin', 'data']);
    await bench.host.ok(['import', archive, image]);
    try {
      // its disk is made once
      await bench.host.ok(['run', '--rm', image, ...shell, 'true']);
      await alternate(imageReads.name, readCasesOf(bench, tree.path), bench);
    } finally {
      await bench.host.ok(['rmi', '-f', image]);
    }
  },
};

/** Both read what the host has in its page cache. */
function readCasesOf({ host, record }: Bench, directory: string) {
  const keep = (name: string, ms: number) => {
    record.add(imageReads.name, `${name}, throughput`, (fileMiB * 1.048576) / (ms / 1000), 'MB/s', 'higher');
    return ms;
  };
  return [
    {
      name: readCases.guest,
      sample: async () =>
        keep(readCases.guest, guestMs(await host.ok(['run', '--rm', image, ...shell, readInGuest]))),
    },
    {
      name: readCases.host,
      sample: async () => {
        const path = join(directory, 'data');
        return keep(
          readCases.host,
          await timed(() => execute('/bin/busybox', ['dd', `if=${path}`, ...copying])),
        );
      },
    },
  ];
}

/** Milliseconds between the two times of proc_uptime(5), which are in hundredths of a second. */
function guestMs(said: string): number {
  const [before, after] = said.split('\n').map((line) => Number.parseFloat(line));
  if (before === undefined || after === undefined) throw new Error(`the guest said: ${said}`);
  return (after - before) * 1000;
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
