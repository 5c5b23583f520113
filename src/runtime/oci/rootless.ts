import { readFile } from 'node:fs/promises';
import { HrunError } from '../../base/errors.ts';

/** Of a user namespace in which every id is itself, as the first one has it. */
const allIds = /^\s*0\s+0\s+4294967295\s*$/;

/**
 * Bundles need a daemon that is root on the host: cgroups, network namespaces and owners of files are made there.
 * @throws HrunError SPEC_UNSUPPORTED
 */
export async function refuseRootless(uid: number): Promise<void> {
  const map = await readFile('/proc/self/uid_map', 'utf8').catch(() => '');
  if (uid === 0 && allIds.test(map)) return;
  const who = uid === 0 ? 'inside a user namespace' : `as uid ${uid}`;
  throw new HrunError('SPEC_UNSUPPORTED', `rootless containers are not supported: hrun runs ${who}`, {
    hint: 'call it as root, or use "hrun run IMAGE", which needs no root',
  });
}
