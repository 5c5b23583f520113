import { readdirSync, statSync } from 'node:fs';
import { errnoOf } from '../base/errors.ts';
import { type NetNamespace, namespaceOfTap, openNetNamespace } from '../sys/netNamespace.ts';

/**
 * The network namespace with this identity, as long as something keeps it alive that this process may look at: itself,
 * another process, or a VMM that holds a tap of it.
 * @param vmPids processes that may hold such a tap
 */
export function findNamespace(identity: string, vmPids: readonly number[]): NetNamespace | undefined {
  for (const pid of vmPids) {
    const held = namespaceOfTap(pid);
    if (held?.identity === identity) return held;
    held?.[Symbol.dispose]();
  }
  for (const entry of ['self', ...readdirSync('/proc').filter((name) => /^\d+$/.test(name))]) {
    const path = `/proc/${entry}/ns/net`;
    try {
      const { dev, ino } = statSync(path, { bigint: true });
      if (`${dev}:${ino}` !== identity) continue;
      const found = openNetNamespace(path);
      if (found.identity === identity) return found;
      found[Symbol.dispose]();
    } catch (error) {
      // it ended, or is not ours to look at
      if (errnoOf(error) === undefined) throw error;
    }
  }
  return undefined;
}
