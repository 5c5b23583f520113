import type { AgentClient } from '../agent/client.ts';
import type { GuestInterface } from '../network/guestInterface.ts';

/**
 * Tells the agent what network devices of the guest are; the others stay as they are.
 * @throws HrunError AGENT_REFUSED naming what the guest's kernel did not take
 */
export async function configureGuestNetwork(
  client: AgentClient,
  interfaces: readonly GuestInterface[],
  signal: AbortSignal,
): Promise<void> {
  const request = interfaces.map(({ name, slot, mac, mtu, addresses, routes, neighbours }, index) => ({
    slot: slot ?? index,
    name,
    mac,
    mtu,
    addresses: [...addresses],
    routes: routes.map((route) => ({ ...route })),
    neighbours: neighbours.map((neighbour) => ({ ...neighbour })),
  }));
  await client.configureNetwork({ interfaces: request }, signal);
}
