import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { makeDisk } from '../../helpers/disks.ts';
import { writeToolImage } from '../../helpers/toolImage.ts';
import type { Bench, Group } from '../bench.ts';

const execute = promisify(execFile);
const fio = '/usr/bin/fio';
/** A round takes a minute for each place, where the guest is emulated. */
const mostRounds = 3;

const data = ['--size=64M', '--invalidate=1', '--fallocate=none'];
const files = ['--nrfiles=500', '--filesize=4k', '--openfiles=1', '--fallocate=none'];
const jobs = {
  'sequential write': ['--rw=write', '--bs=1M', '--end_fsync=1', ...data],
  'sequential read': ['--rw=read', '--bs=1M', ...data],
  'random 4k read': ['--rw=randread', '--bs=4k', '--io_size=8M', ...data],
  'random 4k write': ['--rw=randwrite', '--bs=4k', '--io_size=8M', '--end_fsync=1', ...data],
  fsync: ['--rw=write', '--bs=4k', '--size=256k', '--fsync=1'],
  'create files': ['--ioengine=filecreate', '--create_on_open=1', ...files],
  'stat files': ['--ioengine=filestat', ...files],
  'unlink files': ['--ioengine=filedelete', ...files],
} as const;
type Job = keyof typeof jobs;

const Direction = z.object({ bw_bytes: z.number(), iops: z.number(), total_ios: z.number() });
const Report = z.object({
  jobs: z.array(
    z.object({
      jobname: z.string(),
      error: z.literal(0),
      read: Direction,
      write: Direction,
      sync: z.object({ lat_ns: z.object({ mean: z.number() }) }),
    }),
  ),
});

/** The same work of fio in a container's places, and on the host's file system that is below all of them. */
export const volumes: Group = {
  name: 'volumes',
  about: 'files on the root, a bind, volumes and a disk, against the host',
  async run(bench) {
    const { host } = bench;
    const at = (name: string) => join(host.directory, name);
    await mkdir(at('host'));
    await writeToolImage(at('fio'), fio);
    await host.ok(['load', '--input', at('fio')]);
    await makeDisk(at('bench.raw'), 'ext4', 1024);
    const inContainer = (...flags: string[]) =>
      host.ok(['run', '--rm', ...flags, 'fio', ...command('/data')]);
    const places: Readonly<Record<string, () => Promise<string>>> = {
      host: async () => (await execute(fio, command(at('host')).slice(1), { maxBuffer: 2 ** 24 })).stdout,
      root: () => host.ok(['run', '--rm', 'fio', ...command('/tmp')]),
      bind: () => inContainer('-v', `${at('bound')}:/data`),
      'dir volume': () => inContainer('-v', 'files:/data'),
      'disk volume': () => inContainer('--mount', 'src=block,dst=/data,volume-driver=disk'),
      disk: () => inContainer('--mount', `type=disk,src=${at('bench.raw')},dst=/data`),
    };
    await measure(places, bench);
    await host.ok(['volume', 'prune', '--all']);
  },
};

async function measure(
  places: Readonly<Record<string, () => Promise<string>>>,
  { rounds, record, interrupted }: Bench,
): Promise<void> {
  const failed = new Set<string>();
  for (let round = 0; round < Math.min(rounds, mostRounds); round += 1) {
    for (const [place, run] of Object.entries(places)) {
      if (failed.has(place)) continue;
      interrupted.throwIfAborted();
      try {
        const report = await run();
        for (const { jobname, read, write, sync } of Report.parse(JSON.parse(report)).jobs) {
          const name = `${jobname}: ${place}`;
          const moved = read.total_ios > 0 ? read : write;
          if (jobname === 'fsync') record.add(volumes.name, name, sync.lat_ns.mean / 1e6);
          else if (jobname.startsWith('sequential')) {
            record.add(volumes.name, name, moved.bw_bytes / 1e6, 'MB/s', 'higher');
          } else record.add(volumes.name, name, moved.iops, '/s', 'higher');
        }
      } catch (error) {
        failed.add(place);
        record.fail(volumes.name, place, error);
      }
    }
  }
}

/** One after the other. Those that read or stat find what an earlier one wrote, by its name. */
function command(directory: string): string[] {
  const common = ['--output-format=json', `--directory=${directory}`];
  const each = Object.entries(jobs).flatMap(([name, options]) => [
    `--name=${name}`,
    '--stonewall',
    `--filename_format=${groupOf(name)}.$filenum`,
    ...options,
  ]);
  return [fio, ...common, ...each];
}

function groupOf(name: string): 'files' | 'data' | 'synced' {
  if (name.endsWith('files')) return 'files';
  return name === ('fsync' satisfies Job) ? 'synced' : 'data';
}
