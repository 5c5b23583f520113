import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cgroupMounts } from '../../sys/cgroups.ts';
import type { HostCgroup } from './ociRecord.ts';

/**
 * `linux.cgroupsPath` as a path below each hierarchy. `slice:prefix:name`, the systemd driver's form, becomes the
 * directories that systemd would make for it. Pure.
 */
export function cgroupPath(cgroupsPath: string, id: string): string {
  const systemd = /^([^/:]*):([^/:]*):([^/:]+)$/.exec(cgroupsPath);
  if (systemd === null) {
    const parts = (cgroupsPath === '' ? id : cgroupsPath)
      .split('/')
      .filter((part) => part !== '' && part !== '.');
    // As runc: ".." never leads above the hierarchy.
    const clean: string[] = [];
    for (const part of parts) part === '..' ? clean.pop() : clean.push(part);
    return `/${clean.join('/')}`;
  }
  const [, slice = '', prefix = '', name = ''] = systemd;
  const unit = name.endsWith('.slice') ? name : `${prefix === '' ? '' : `${prefix}-`}${name}.scope`;
  return `/${[...sliceParts(slice === '' ? 'system.slice' : slice), unit].join('/')}`;
}

/** `a-b.slice` lies in `a.slice` (systemd.slice(5)). */
function sliceParts(slice: string): string[] {
  const stem = slice.replace(/\.slice$/, '');
  if (stem === '-' || stem === '') return [];
  const words = stem.split('-');
  return words.map((_, index) => `${words.slice(0, index + 1).join('-')}.slice`);
}

/** The cgroups of a process that end with `path`, as this daemon sees them. */
export async function cgroupsOfProcess(pid: number, path: string): Promise<HostCgroup[]> {
  const mounts = cgroupMounts(await readFile('/proc/self/mountinfo', 'utf8'));
  const lines = (await readFile(`/proc/${pid}/cgroup`, 'utf8')).trim().split('\n');
  return lines.flatMap((line) => {
    const [, names = '', ...rest] = line.split(':');
    const within = rest.join(':');
    if (!within.endsWith(path) || within.includes('/..')) return [];
    const controllers = names === '' ? [] : names.split(',');
    const mount = mounts.find((candidate) => candidate.controllers.join() === controllers.join());
    return mount === undefined ? [] : [{ controllers, directory: join(mount.directory, within) }];
  });
}

/** Moves a process with all its threads. */
export async function joinCgroups(pid: number, cgroups: readonly HostCgroup[]): Promise<void> {
  for (const { directory } of cgroups) await writeFile(join(directory, 'cgroup.procs'), String(pid));
}
