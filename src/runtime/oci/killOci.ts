import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortable } from '../../base/abort.ts';
import { type ErrorCode, isHrunError } from '../../base/errors.ts';
import { initProcessId } from '../launchContainer.ts';
import type { LiveOci } from './liveOci.ts';
import type { OciRecord } from './ociRecord.ts';
import { notRunning } from './runcErrors.ts';

const { SIGKILL, SIGCHLD, SIGURG, SIGWINCH, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU } = constants.signals;
/** What does not end a process that has not asked for it (signal(7)). */
const harmless: readonly number[] = [
  SIGCHLD,
  SIGURG,
  SIGWINCH,
  SIGCONT,
  SIGSTOP,
  SIGTSTP,
  SIGTTIN,
  SIGTTOU,
  0,
];
/** What the agent, or its end, says of a process that is no more. */
const endings: readonly ErrorCode[] = ['AGENT_UNREACHABLE', 'VM_DIED', 'NOT_FOUND', 'WRONG_STATE'];
/** For a guest to carry out a SIGKILL before its microVM is killed instead. */
const killGraceMs = 10_000;

/**
 * Sends a signal to the process of a container, or to all of them. One that was created has no process yet that could
 * handle a signal: it ends of it. @throws HrunError WRONG_STATE with runc's text
 */
export async function killOci(
  record: OciRecord,
  live: LiveOci | undefined,
  signalNumber: number,
  all: boolean,
  signal: AbortSignal,
): Promise<void> {
  if (live === undefined || record.status === 'stopped') {
    if (all) return;
    throw notRunning();
  }
  if (record.status === 'created') {
    if (harmless.includes(signalNumber)) return;
    live.tearDown(128 + signalNumber, '');
    await live.ended;
    return;
  }
  if (signalNumber === 0) return;
  try {
    const { client } = await live.sandbox.guest.agent(signal);
    const request = { containerId: record.id, processId: initProcessId, signal: signalNumber, all };
    await client.signal(request, signal);
    // As runc: nothing frozen could die.
    if (signalNumber === SIGKILL && record.paused) await client.resumeContainer(record.id, signal);
  } catch (error) {
    signal.throwIfAborted();
    if (!isHrunError(error) || !endings.includes(error.code)) throw error;
    // It has just ended: what is said of it must be what its state says.
    await abortable(live.ended, signal);
    if (all) return;
    throw notRunning();
  }
  if (signalNumber !== SIGKILL) return;
  const over = new AbortController();
  void live.ended.then(() => over.abort());
  void sleep(killGraceMs, undefined, { ref: false, signal: over.signal }).then(
    () => live.tearDown(128 + SIGKILL, 'its guest did not carry out a SIGKILL'),
    () => {},
  );
}
