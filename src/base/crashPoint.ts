import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** True in the bundle of `make chaos` alone; everywhere else what is below is not even there. */
declare const HRUN_CRASH_POINTS: boolean | undefined;

/** The moments between the steps of a command at which a crash is of interest (test/integration/chaos). */
export type CrashPoint =
  | 'create.recorded'
  | 'start.reserved'
  | 'start.booted'
  | 'start.created'
  | 'start.told'
  | 'start.started'
  | 'start.recorded'
  | 'end.exited'
  | 'end.killed'
  | 'end.recorded'
  | 'oci.killed'
  | 'remove.renamed'
  | 'exec.created'
  | 'exec.exited'
  | 'stop.asked'
  | 'pull.stored'
  | 'pull.recorded'
  | 'unpack.made'
  | 'unpack.unpacked'
  | 'unpack.published'
  | 'oci.create.recorded'
  | 'oci.create.placed'
  | 'oci.create.booted'
  | 'oci.create.made'
  | 'oci.create.told'
  | 'oci.start.started'
  | 'oci.exec.started'
  | 'oci.exec.recorded'
  | 'oci.exec.exited'
  | 'oci.delete.ended'
  | 'oci.delete.renamed';

/**
 * Stands still at `point` when a test has armed it with a file `POINT.armed` in `HRUN_CRASH_DIR`, which becomes
 * `POINT.reached`, until the test removes that.
 */
export async function crashPoint(point: CrashPoint): Promise<void> {
  if (typeof HRUN_CRASH_POINTS === 'undefined' || !HRUN_CRASH_POINTS) return;
  const directory = process.env.HRUN_CRASH_DIR;
  if (directory === undefined) return;
  const reached = join(directory, `${point}.reached`);
  try {
    renameSync(join(directory, `${point}.armed`), reached);
  } catch {
    return;
  }
  while (existsSync(reached)) await sleep(5);
}
