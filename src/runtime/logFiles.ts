import { readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errnoOf } from '../base/errors.ts';

/** How much of a container's output is kept: files of a size, the newest included. */
export interface LogLimits {
  readonly maxBytes: number;
  readonly maxFiles: number;
}

/** A file that is to become the newest one of the log `path`. */
export function nextFilePath(path: string): string {
  return `${path}.new`;
}

/** The files of a log that exist, oldest first: `path.2`, `path.1`, `path`. */
export async function outputLogFiles(path: string): Promise<string[]> {
  const names = await readdir(dirname(path)).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  });
  const ages = names.flatMap((name) => ageOf(name, basename(path)) ?? []);
  return ages.sort((a, b) => b - a).map((age) => agedPath(path, age));
}

/**
 * Makes the file at `nextFilePath` the newest, every other one older, and removes those too many. At no moment is there
 * no newest file.
 */
export async function rotateFiles(path: string, maxFiles: number): Promise<void> {
  for (const file of await outputLogFiles(path)) {
    const age = ageOf(basename(file), basename(path)) ?? 0;
    if (age + 1 >= maxFiles) {
      if (age > 0) await rm(file, { force: true });
    } else if (age > 0) {
      await rename(file, agedPath(path, age + 1));
    }
  }
  if (maxFiles > 1) await rename(path, agedPath(path, 1));
  await rename(nextFilePath(path), path);
}

/** Removes all but the newest file. @returns whether there were any */
export async function dropOldFiles(path: string): Promise<boolean> {
  const old = (await outputLogFiles(path)).filter((file) => file !== path);
  for (const file of old) await rm(file, { force: true });
  return old.length > 0;
}

function agedPath(path: string, age: number): string {
  return age === 0 ? path : join(dirname(path), `${basename(path)}.${age}`);
}

function ageOf(name: string, newest: string): number | undefined {
  if (name === newest) return 0;
  const age = name.startsWith(`${newest}.`) ? name.slice(newest.length + 1) : '';
  return /^[1-9]\d{0,3}$/.test(age) ? Number(age) : undefined;
}
