import { posix } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NameRelay } from '../../agent/client.ts';
import { isHrunError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { askUpstream } from '../../network/resolverUpstream.ts';
import type { RuntimeSpec } from '../../oci/runtimeSpec.ts';
import type { GuestVm } from '../../pool/guestVm.ts';
import { type NetNamespace, openNetNamespace } from '../../sys/netNamespace.ts';
import type { CallerFiles } from '../callerFiles.ts';

/** Where dockerd's name server listens, inside the network namespace of a container. */
const dockerResolver = '127.0.0.11';
const minimumQueryBytes = 12;
const maxWaitingQueries = 256;
const maxResolvConfBytes = 64 * 1024;
const longestPauseMs = 1000;

/**
 * Lets a guest ask the name server that dockerd runs inside the container's network namespace on the host: its loopback
 * address means nothing in the guest, so queries come over the agent and are asked from the namespace. Goes on after a lost
 * connection, until `signal` fires.
 */
export function relayNames(
  guest: GuestVm,
  standInPid: number,
  log: Pick<Log, 'debug' | 'warn'>,
  signal: AbortSignal,
): void {
  const run = async () => {
    using netns = openNetNamespace(`/proc/${standInPid}/ns/net`);
    for (let pauseMs = 10; !signal.aborted; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
      try {
        await relayOnce(guest, netns, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (!isHrunError(error, 'AGENT_UNREACHABLE')) throw error;
      }
      await sleep(pauseMs, undefined, { signal, ref: false });
    }
  };
  run().catch((error: unknown) => {
    if (!signal.aborted) log.warn({ vm: guest.vm.record.id, err: error }, 'names are not relayed any more');
  });
}

/**
 * Whether the resolv.conf that a bundle mounts names dockerd's server: dockerd writes it between create and start. One that
 * cannot be read names none.
 */
export async function asksDockerResolver(
  { mounts }: RuntimeSpec,
  bundle: string,
  files: CallerFiles,
  signal: AbortSignal,
): Promise<boolean> {
  const mount = mounts.findLast(({ destination }) => destination === '/etc/resolv.conf');
  if (mount === undefined) return false;
  const path = posix.resolve(bundle, mount.source);
  const text = await files.readFile(path, maxResolvConfBytes, signal).catch(() => Buffer.alloc(0));
  return text
    .toString('utf8')
    .split('\n')
    .some((line) => /^\s*nameserver\s+127\.0\.0\.11\s*$/.test(line));
}

async function relayOnce(guest: GuestVm, netns: NetNamespace, signal: AbortSignal): Promise<void> {
  const { client } = await guest.agent(signal);
  using relay = await client.relayNames(dockerResolver, signal);
  await answerQueries(relay, (query, transport) =>
    askUpstream(netns, [dockerResolver], query, transport, signal),
  );
}

/**
 * Passes queries to `ask` and its answers back until the relay ends. At most 256 wait for an answer, which the agent heeds
 * (agent.proto): each takes a socket here, so what comes beyond from one that does not is dropped.
 */
export async function answerQueries(
  relay: Pick<NameRelay, 'queries' | 'answer'>,
  ask: (query: Buffer, transport: 'tcp' | 'udp') => Promise<Uint8Array | undefined>,
): Promise<void> {
  let waiting = 0;
  for await (const { id, data, overStream } of relay.queries) {
    if (waiting === maxWaitingQueries) continue;
    waiting += 1;
    const query = Buffer.from(data);
    const asked =
      query.length < minimumQueryBytes ? Promise.resolve(undefined) : ask(query, overStream ? 'tcp' : 'udp');
    void asked
      .catch(() => undefined)
      .then((answer) => relay.answer({ id, data: answer ?? new Uint8Array() }))
      .catch(() => {}) // the relay has ended, and whoever asked asks again
      .finally(() => {
        waiting -= 1;
      });
  }
}
