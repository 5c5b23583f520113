import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { formatSize } from '../base/units.ts';

/** Where a cgroup counts what the kernel killed in it for its memory, and its limit: v2 and v1. */
const files = [
  { events: 'memory.events', limit: 'memory.max' },
  { events: 'memory.oom_control', limit: 'memory.limit_in_bytes' },
] as const;

/** The cause of a VM_DIED whose VMM the host's kernel killed, because its cgroup had no memory left. */
export class OutOfMemory extends Error {
  constructor(why: string) {
    super(why);
    this.name = 'OutOfMemory';
  }
}

/** Whether that is what an error comes from. */
export function isOutOfMemory(error: unknown): boolean {
  if (error instanceof OutOfMemory) return true;
  return error instanceof Error && error.cause !== undefined && isOutOfMemory(error.cause);
}

/**
 * Whether the kernel has killed something in these cgroups, which a VMM has for itself, for want of memory: then why, in
 * words. They must still be there.
 */
export async function findOutOfMemory(cgroups: readonly string[]): Promise<OutOfMemory | undefined> {
  for (const directory of cgroups) {
    for (const { events, limit } of files) {
      const counts = await readFile(join(directory, events), 'utf8').catch(() => '');
      if (Number(/^oom_kill (\d+)$/m.exec(counts)?.[1] ?? 0) === 0) continue;
      const most = Number(await readFile(join(directory, limit), 'utf8').catch(() => ''));
      const of = Number.isSafeInteger(most) && most > 0 ? ` of ${formatSize(most)}` : '';
      return new OutOfMemory(
        `the kernel of the host killed QEMU: the memory${of} that it may have was used up`,
      );
    }
  }
  return undefined;
}
