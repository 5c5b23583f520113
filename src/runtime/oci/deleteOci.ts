import { setTimeout as sleep } from 'node:timers/promises';
import { abortable } from '../../base/abort.ts';
import { crashPoint } from '../../base/crashPoint.ts';
import { messageOf } from '../../base/errors.ts';
import { parseRuntimeSpec } from '../../oci/runtimeSpec.ts';
import { removeCgroups } from '../../sys/cgroups.ts';
import { runHooks } from './hooks.ts';
import type { OciDeps } from './ociDeps.ts';
import type { OciCaller } from './ociEngine.ts';
import type { OciRecord } from './ociRecord.ts';
import { notStopped } from './runcErrors.ts';
import { specState, statusOf } from './runcState.ts';

const killedCode = 137;
/** For a stand-in whose last output nobody reads; then it is killed, as runc kills what is left in the cgroup. */
const lingerMs = 2_000;
const cgroupLimitMs = 5_000;

/**
 * Removes what `create` made. One that was only created is ended first; one that runs, with `force` only.
 * @throws HrunError WRONG_STATE with runc's text
 */
export async function deleteOci(
  record: OciRecord,
  force: boolean,
  { files }: OciCaller,
  deps: OciDeps,
  signal: AbortSignal,
): Promise<void> {
  const live = deps.live.get(record.id);
  if (live !== undefined && record.status !== 'stopped') {
    if (!force && (record.status === 'running' || record.paused)) {
      throw notStopped(record.name, statusOf(record));
    }
    live.tearDown(killedCode, 'it was deleted');
    await abortable(live.ended, signal);
  }
  if (live !== undefined) {
    await Promise.race([live.finished, sleep(lingerMs, undefined, { ref: false })]);
    if (deps.live.get(record.id) !== undefined) await live.link.kill();
    await abortable(live.finished, signal);
  }
  await crashPoint('oci.delete.ended');
  await runPoststop(record, files, deps, signal);
  await removeCgroups(record.cgroups, AbortSignal.timeout(cgroupLimitMs)).catch((error: unknown) =>
    deps.log.warn({ container: record.name, err: error }, 'a cgroup could not be removed'),
  );
  await deps.store.remove(record.id);
}

/** A failure is told to the log only (runtime-spec, runtime.md, "Lifecycle"). */
async function runPoststop(
  record: OciRecord,
  files: OciCaller['files'],
  { store, log }: OciDeps,
  signal: AbortSignal,
): Promise<void> {
  const hooks = parseRuntimeSpec(await store.config(record.id)).hooks?.poststop ?? [];
  for (const hook of hooks) {
    const run = { name: 'poststop', hooks: [hook], state: specState(record, 'stopped', 0), bundle: '/' };
    await runHooks(run, files, signal).catch((error: unknown) => {
      signal.throwIfAborted();
      log.warn({ container: record.name, error: messageOf(error) }, 'a poststop hook failed');
    });
  }
}
