import { setTimeout as sleep } from 'node:timers/promises';
import { abortable } from '../base/abort.ts';
import { crashPoint } from '../base/crashPoint.ts';
import { containerEvent } from './containerEvents.ts';
import type { ContainerRecord } from './containerRecord.ts';
import type { StopOptions } from './engine.ts';
import { initProcessId } from './launchContainer.ts';
import type { LiveContainer } from './liveContainers.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';
import { keepsDisks } from './volumes/holders.ts';

const sigkill = 9;
/** For the guest to carry out a SIGKILL before its VM is killed instead. */
const killGraceMs = 5_000;

/**
 * Asks the workload to end, kills it when it has not after the time-out, and kills its VM when even that is not obeyed.
 * @throws the reason of `signal`
 */
export async function stopContainer(
  live: LiveContainer,
  record: ContainerRecord,
  options: StopOptions,
  { events }: Pick<RuntimeDeps, 'events'>,
  signal: AbortSignal,
): Promise<void> {
  const timeoutS = options.timeoutS ?? record.config.stopTimeoutS;
  const send = (signalNumber: number) => {
    events.record(killEvent(record, signalNumber));
    return signalInit(live, signalNumber, signal);
  };
  if (timeoutS !== 0) {
    const asked = await send(options.signalNumber ?? record.config.stopSignal);
    await crashPoint('stop.asked');
    if (timeoutS < 0) return void (await abortable(live.finished, signal));
    if (asked && (await endsWithin(live, timeoutS * 1000, signal))) return;
  }
  const killed = await send(sigkill);
  if (killed && (await endsWithin(live, killGraceMs, signal))) return;
  await live.tenancy.kill();
  await abortable(live.finished, signal);
}

/**
 * Ends a container at once: by killing its VM, or, where disks are to outlive it or others live there, by killing its
 * workload, so that the guest can write them back.
 */
export async function killContainer(
  live: LiveContainer,
  record: ContainerRecord,
  deps: Pick<RuntimeDeps, 'events'>,
  signal: AbortSignal,
): Promise<void> {
  const { joined, members, kill } = live.tenancy;
  if (joined || members.count > 0 || keepsDisks(record.config))
    return await stopContainer(live, record, { timeoutS: 0 }, deps, signal);
  deps.events.record(killEvent(record, sigkill));
  await kill();
  await abortable(live.finished, signal);
}

/** A signal was sent to a container's init process. */
export function killEvent(record: ContainerRecord, signalNumber: number): ReturnType<typeof containerEvent> {
  return containerEvent(record, 'kill', { signal: String(signalNumber) });
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
