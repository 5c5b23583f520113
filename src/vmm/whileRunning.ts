import { abortable, withCancel } from '../base/abort.ts';
import { HrunError, isHrunError } from '../base/errors.ts';
import type { MicroVm, VmEnd } from './microVm.ts';
import { lastLines } from './qemu/consoleLog.ts';

const consoleLines = 20;

/**
 * Runs `work`, which needs the guest alive, with a signal that also fires when the guest ends.
 * @param phase what is being done, for the message: "booting", "unpacking layers"
 * @throws HrunError VM_BOOT_FAILED while booting, else VM_DIED, with the console's last lines as the hint
 */
export function whileRunning<T>(
  vm: MicroVm,
  phase: string,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  return withCancel(signal, async (inner, cancel) => {
    let settled = false;
    let died: HrunError | undefined;
    const watch = vm.ended.then(async (end) => {
      if (settled) return;
      died = await endedError(vm, end, phase);
      cancel(died);
    });
    try {
      return await work(inner);
    } catch (error) {
      if (!inner.aborted && !looksBroken(error)) throw error;
      // the connection breaks a moment before the end is known
      await abortable(watch, AbortSignal.any([signal, AbortSignal.timeout(500)])).catch(() => {});
      throw died ?? error;
    } finally {
      settled = true;
    }
  });
}

function looksBroken(error: unknown): boolean {
  return isHrunError(error, 'AGENT_UNREACHABLE') || isHrunError(error, 'VM_DIED');
}

/** Why the guest is gone, fit to show. */
async function endedError(vm: MicroVm, end: VmEnd, phase: string): Promise<HrunError> {
  const code = phase === 'booting' ? 'VM_BOOT_FAILED' : 'VM_DIED';
  const message = `microVM ${vm.record.id} ${describeEnd(end)} while ${phase}`;
  const tail = await vm.consoleTail(AbortSignal.timeout(1000)).catch(() => '');
  const lines = lastLines(tail, consoleLines);
  const cause = end.kind === 'vmm-died' ? end.outOfMemory : undefined;
  if (lines.length === 0) return new HrunError(code, message, { cause });
  return new HrunError(code, message, { cause, hint: `its console ended with:\n  ${lines.join('\n  ')}` });
}

function describeEnd(end: VmEnd): string {
  switch (end.kind) {
    case 'killed':
      return 'was killed';
    case 'guest-reset':
      return 'reset itself';
    case 'guest-panic':
      return 'had a kernel panic';
    case 'vmm-died':
      return `lost its VMM (${end.detail})`;
  }
}
