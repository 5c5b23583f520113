import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { debianImage } from '../../helpers/debian.ts';
import { alternate, type Bench, type Group } from '../bench.ts';

const execute = promisify(execFile);
/** One takes seconds. */
const mostRounds = 5;

/** A Debian system (debootstrap) of one layer: from compressed blobs to a disk, and what a second container costs. */
export const unpacking: Group = {
  name: 'unpack',
  about: 'a debootstrap image, from its blobs to a disk',
  async run(bench) {
    const { host, record } = bench;
    const group = unpacking.name;
    const { layout } = await debianImage();
    const layer = await largestBlob(layout);
    const { entries, bytes } = await contentOf(layer);
    record.add(group, 'entries', entries, 'entries', 'higher');
    record.add(group, 'size of the tar', bytes / 1e6, 'MB', 'higher');
    const sample = async () => {
      const loaded = await host.ok(['load', '-q', '-i', layout]);
      const image = /^Loaded image(?: ID)?: (\S+)$/m.exec(loaded)?.[1];
      if (image === undefined) throw new Error(`nothing was loaded: ${loaded}`);
      try {
        const firstMs = await disksPhaseMs(image, bench);
        const secondMs = await disksPhaseMs(image, bench);
        const unpackS = (firstMs - secondMs) / 1000;
        record.add(group, 'throughput', bytes / 1e6 / unpackS, 'MB/s', 'higher');
        record.add(group, 'entries per second', entries / unpackS, '1/s', 'higher');
        record.add(group, 'disks of a second container', secondMs);
        return firstMs;
      } finally {
        await host.ok(['rmi', '-f', image]);
      }
    };
    const rounds = Math.min(bench.rounds, mostRounds);
    await alternate(group, [{ name: 'disks of a first container', sample }], { ...bench, rounds });
  },
};

/** The phase "disks" of a launch, as the daemon measured it: the image's disk, if there is none, and the scratch disk. */
async function disksPhaseMs(image: string, { host }: Bench): Promise<number> {
  await host.ok(['run', '--rm', '--name', 'unpacking', image, 'true']);
  const past = ['events', '--since', '10m', '--until', '0s'];
  const filters = ['--filter', 'container=unpacking', '--filter', 'event=launch'];
  const lines = await host.ok([...past, ...filters, '--format', '{{index .Actor.Attributes "phase.disks"}}']);
  return Number(lines.split('\n').at(-1));
}

async function largestBlob(layout: string): Promise<string> {
  const { stdout } = await execute('ls', ['-S', join(layout, 'blobs/sha256')]);
  return join(layout, 'blobs/sha256', stdout.split('\n')[0] ?? '');
}

async function contentOf(layer: string): Promise<{ readonly entries: number; readonly bytes: number }> {
  const { stdout: list } = await execute('tar', ['-tzf', layer], { maxBuffer: 2 ** 26 });
  const { stdout: bytes } = await execute('sh', ['-c', 'zcat "$0" | wc -c', layer]);
  return { entries: list.trimEnd().split('\n').length, bytes: Number(bytes) };
}
