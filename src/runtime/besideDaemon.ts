import { readlink } from 'node:fs/promises';
import type { CallerFiles } from './callerFiles.ts';

/** The server is named by its pid, and reached with the rights of its user namespace. */
const decisive = ['pid', 'user'] as const;

/** Whether a caller's stand-in can lend its directories to a share server that the daemon has started. */
export async function isBesideDaemon(files: CallerFiles, signal: AbortSignal): Promise<boolean> {
  if (process.geteuid?.() !== 0) return false;
  const same = decisive.map(async (name) => {
    const path = `/proc/self/ns/${name}`;
    const [caller, own] = await Promise.all([files.stat(path, { followLink: true }, signal), readlink(path)]);
    return own.endsWith(`[${caller.inode}]`);
  });
  return (await Promise.all(same).catch(() => [false])).every(Boolean);
}
