import { HrunError } from '../../base/errors.ts';
import { plumbableInterfaces, plumbNamespace, unplumbNamespace } from '../../network/plumbNamespace.ts';
import { openNetNamespace } from '../../sys/netNamespace.ts';
import { configureGuestNetwork } from '../configureGuestNetwork.ts';
import type { LiveOci } from './liveOci.ts';
import type { OciDeps } from './ociDeps.ts';
import type { OciRecord } from './ociRecord.ts';

/**
 * Network devices of a microVM: they are there before anybody knows how many interfaces its namespace will have, because
 * dockerd adds some between create and start. There is room for no more (eight transports, five are taken).
 */
export const nicSlots = 3;

/**
 * Hands the interfaces that the container's network namespace has now over to its microVM. Which they were is on disk
 * before they are, so that any daemon can give them back.
 * @throws HrunError NETWORK_FAILED naming the interface
 */
export async function connectNetwork(
  record: OciRecord,
  live: LiveOci,
  deps: OciDeps,
  signal: AbortSignal,
): Promise<void> {
  // Who joined a microVM has its network already.
  if (record.sandbox !== record.id || record.standIn === undefined) return;
  using netns = openNetNamespace(`/proc/${record.standIn.hostPid}/ns/net`);
  const count = plumbableInterfaces(netns);
  if (count === 0) return;
  if (count > nicSlots) {
    throw new HrunError(
      'NETWORK_FAILED',
      `the network namespace has ${count} interfaces, and a microVM takes ${nicSlots}`,
    );
  }
  using undo = new DisposableStack();
  const { nics } = undo.use(plumbNamespace(netns));
  await deps.store.update(record.id, { interfaces: nics.map(({ guest }) => guest.name) });
  const { guest } = live.sandbox;
  for (const [slot, { tap }] of nics.entries()) {
    await guest.vm.plugNic(slot, { kind: 'tap', fd: tap.fd }, signal);
    tap[Symbol.dispose]();
  }
  const { client } = await guest.agent(signal);
  await configureGuestNetwork(
    client,
    nics.map((nic) => nic.guest),
    signal,
  );
  undo.move();
}

/** Gives the interfaces of a namespace that outlives the container back to it. */
export function disconnectNetwork({ standIn, interfaces }: OciRecord): void {
  if (standIn === undefined || interfaces.length === 0) return;
  using netns = openNetNamespace(`/proc/${standIn.hostPid}/ns/net`);
  unplumbNamespace(netns, interfaces);
}
