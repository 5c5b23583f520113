import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { HrunHost } from './hrunHost.ts';

/** What a failed command could leave behind on a host without a pool: to be compared before and after. */
export async function tracesOf(host: HrunHost): Promise<object> {
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8'))
    .split('\n')
    .map((line) => line.split(' ')[4]);
  const files = await readdir(host.directory, { recursive: true });
  const lasting = files.filter(
    (path) => !/^root\/(cache|images|events)|hrund|compile-cache|sessions/.test(path),
  );
  return {
    mounts: mounts.toSorted(),
    // microVMs have names that mean nothing
    files: lasting.map((path) => path.replace(/(?<=vms\/)[0-9a-f]+/, 'ID')).toSorted(),
    locks: await locksBelow(host),
    containers: await host.ok(['ps', '-aq']),
    volumes: await host.ok(['volume', 'ls', '-q']),
    processes: (await host.processes())
      .map(({ command }) => command.split(' ')[0])
      .filter((name) => !name?.endsWith('hrun'))
      .toSorted(),
  };
}

/** Locks of files of this host's volumes and beside its directories, as /proc/locks has them: by inode. */
async function locksBelow({ directory, root }: HrunHost): Promise<readonly string[]> {
  const places = [directory, join(root, 'volumes')];
  const inodes = new Set<string>();
  for (const place of places) {
    for (const name of await readdir(place, { recursive: place !== directory }).catch(() => [])) {
      const found = await stat(join(place, name)).catch(() => undefined);
      if (found?.isFile()) inodes.add(String(found.ino));
    }
  }
  const lines = (await readFile('/proc/locks', 'utf8')).split('\n');
  return lines
    .filter((line) => inodes.has(/:(\d+) \d+ \S+$/.exec(line)?.[1] ?? ''))
    .map((line) => line.replace(/^\d+: /, ''))
    .toSorted();
}
