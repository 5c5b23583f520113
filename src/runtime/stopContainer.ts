import { setTimeout as sleep } from 'node:timers/promises';
import { abortable } from '../base/abort.ts';
import type { ContainerRecord } from './containerRecord.ts';
import type { StopOptions } from './engine.ts';
import { initProcessId } from './launchContainer.ts';
import type { LiveContainer } from './liveContainers.ts';

const sigkill = 9;
/** For the guest to carry out a SIGKILL before its VM is killed instead. */
const killGraceMs = 5_000;

/**
 * Asks the workload to end, kills it when it has not after the time-out, and kills its VM when even that is not obeyed.
 * @throws the reason of `signal`
 */
export async function stopContainer(
  live: LiveContainer,
  { config }: ContainerRecord,
  options: StopOptions,
  signal: AbortSignal,
): Promise<void> {
  const timeoutS = options.timeoutS ?? config.stopTimeoutS;
  if (timeoutS !== 0) {
    const asked = await signalInit(live, options.signalNumber ?? config.stopSignal, signal);
    if (timeoutS < 0) return void (await abortable(live.finished, signal));
    if (asked && (await endsWithin(live, timeoutS * 1000, signal))) return;
  }
  const killed = await signalInit(live, sigkill, signal);
  if (killed && (await endsWithin(live, killGraceMs, signal))) return;
  await live.guest.vm.kill();
  await abortable(live.finished, signal);
}

/** False when the agent could not be told: it hangs, or the container is just ending. */
async function signalInit(live: LiveContainer, signalNumber: number, signal: AbortSignal): Promise<boolean> {
  try {
    const { client } = await live.guest.agent(signal);
    const request = { containerId: live.id, processId: initProcessId, signal: signalNumber, all: false };
    await client.signal(request, AbortSignal.any([signal, AbortSignal.timeout(killGraceMs)]));
    return true;
  } catch {
    signal.throwIfAborted();
    return false;
  }
}

async function endsWithin(live: LiveContainer, limitMs: number, signal: AbortSignal): Promise<boolean> {
  const over = new AbortController();
  const timer = sleep(limitMs, false, { signal: AbortSignal.any([signal, over.signal]) });
  try {
    return await Promise.race([live.finished.then(() => true), timer]);
  } finally {
    over.abort();
    timer.catch(() => {});
  }
}
