import { rmdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf } from '../base/errors.ts';

/** One cgroup of the host: its directory in the hierarchy of these controllers, none of which are named for v2. */
export interface HostCgroup {
  readonly controllers: readonly string[];
  readonly directory: string;
}

/** A cgroup hierarchy, where somebody has it mounted. */
export interface CgroupMount {
  readonly directory: string;
  /** Of v1; of v2 it is empty. */
  readonly controllers: readonly string[];
}

/**
 * The hierarchies of a mountinfo(5) table: those of v1 where there are any (the hybrid layout's v2 holds nothing that
 * is limited), or the one of v2. Pure.
 */
export function cgroupMounts(mountinfo: string): CgroupMount[] {
  const found = mountinfo.split('\n').flatMap((line) => {
    const [before = '', after = ''] = line.split(' - ');
    const directory = before.split(' ')[4];
    const [type, , options = ''] = after.split(' ');
    if (directory === undefined || (type !== 'cgroup' && type !== 'cgroup2')) return [];
    const generic = new Set([
      'rw',
      'ro',
      'xattr',
      'noprefix',
      'clone_children',
      'nsdelegate',
      'memory_recursiveprot',
    ]);
    const controllers =
      type === 'cgroup2'
        ? []
        : options.split(',').filter((option) => !generic.has(option) && !option.startsWith('release_agent='));
    return [{ type, directory: unescaped(directory), controllers }];
  });
  const v1 = found.filter(({ type }) => type === 'cgroup');
  const used = v1.length > 0 ? v1 : found.slice(0, 1);
  const seen = new Set<string>();
  return used
    .filter(({ controllers }) => {
      const key = controllers.join(',');
      return !seen.has(key) && seen.add(key);
    })
    .map(({ directory, controllers }) => ({ directory, controllers }));
}

/** The one that a controller's files are in; that of v2 has them all. */
export function cgroupWith(controller: string, cgroups: readonly HostCgroup[]): HostCgroup | undefined {
  return cgroups.find(({ controllers }) => controllers.length === 0 || controllers.includes(controller));
}

export function isV2({ controllers }: HostCgroup): boolean {
  return controllers.length === 0;
}

/** Removes them; a process that is just ending is waited for. */
export async function removeCgroups(
  cgroups: readonly Pick<HostCgroup, 'directory'>[],
  signal: AbortSignal,
): Promise<void> {
  for (const { directory } of cgroups) {
    for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, 100)) {
      const errno = await rmdir(directory).then(
        () => undefined,
        (error: unknown) => errnoOf(error) ?? 'UNKNOWN',
      );
      // Not empty: somebody made one below it, who is to remove it.
      if (errno !== 'EBUSY') break;
      await sleep(pauseMs, undefined, { signal });
    }
  }
}

/** The kernel writes space, tab, newline and backslash as three octal digits. */
function unescaped(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
