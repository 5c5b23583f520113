import type { AgentClient } from '../agent/client.ts';
import type { GuestInterface } from '../network/guestInterface.ts';

/**
 * Tells the agent what the guest's network devices are, the one at index i being in slot i of the microVM.
 * @throws HrunError AGENT_REFUSED naming what the guest's kernel did not take
 */
export async function configureGuestNetwork(
  client: AgentClient,
  interfaces: readonly GuestInterface[],
  signal: AbortSignal,
): Promise<void> {
  const request = interfaces.map(({ name, mac, mtu, addresses, routes, neighbours }, slot) => ({
    slot,
    name,
    mac,
    mtu,
    addresses: [...addresses],
    routes: routes.map((route) => ({ ...route })),
    neighbours: neighbours.map((neighbour) => ({ ...neighbour })),
  }));
  await client.configureNetwork({ interfaces: request }, signal);
}
