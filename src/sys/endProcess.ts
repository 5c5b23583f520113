import { isAlive, type ProcessIdentity, signalProcess, waitUntilGone } from './processes.ts';

const sigkill = 9;

/** Kills exactly this process, stopped or not, and returns once it is gone; at once when it is already. */
export async function endProcess(process: ProcessIdentity, signal: AbortSignal): Promise<void> {
  if (!(await isAlive(process))) return;
  await signalProcess(process, sigkill);
  await waitUntilGone(process, signal);
}
