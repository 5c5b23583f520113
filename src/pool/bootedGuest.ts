import type { PhaseClock } from '../base/phases.ts';
import type { VmmDeps } from '../vmm/deps.ts';
import type { VmRequest } from '../vmm/microVm.ts';
import { bootMicroVm } from '../vmm/qemu/boot.ts';
import { type GuestLimits, GuestVm, personalizeGuest } from './guestVm.ts';

/**
 * Boots a microVM and waits for its agent.
 * @throws HrunError as bootMicroVm and GuestVm.agent, VM_BOOT_FAILED with the console's last lines
 */
export async function bootGuest(
  request: VmRequest,
  deps: VmmDeps,
  limits: GuestLimits,
  phases: PhaseClock,
  signal: AbortSignal,
): Promise<GuestVm> {
  await using undo = new AsyncDisposableStack();
  const guest = undo.use(new GuestVm(await bootMicroVm(request, deps, signal), limits));
  phases.end('spawn');
  await guest.agent(signal, 'booting');
  phases.end('boot');
  undo.move();
  return guest;
}

/** As bootGuest, and makes the guest distinct from every other. Errors as of personalizeGuest too. */
export async function openGuestVm(
  request: VmRequest,
  hostname: string,
  deps: VmmDeps,
  limits: GuestLimits,
  phases: PhaseClock,
  signal: AbortSignal,
): Promise<GuestVm> {
  await using undo = new AsyncDisposableStack();
  const guest = undo.use(await bootGuest(request, deps, limits, phases, signal));
  await personalizeGuest(guest, hostname, signal);
  phases.end('agent');
  undo.move();
  return guest;
}
