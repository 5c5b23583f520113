import { HrunError } from '../../base/errors.ts';
import { noNetwork } from '../../network/containerNetwork.ts';
import type { NetworkWish } from '../../runtime/runRequest.ts';
import { parseNetwork } from '../parse/networkFlag.ts';
import type { CreateFlags } from './createFlags.ts';

const prefix = 'container:';

/**
 * The wish of `--network container:NAME`, if that is what was asked for.
 * @throws HrunError INVALID_ARGUMENT, in Docker's words, for options that are the business of that container
 */
export function sharedNetwork(flags: CreateFlags): NetworkWish | undefined {
  const networks = [...flags.network, ...flags.net].map((text) => parseNetwork(text).network);
  const wanted = networks.find((network) => network.startsWith(prefix));
  if (wanted === undefined) return undefined;
  const reference = wanted.slice(prefix.length);
  if (reference === '') {
    throw new HrunError('INVALID_ARGUMENT', 'invalid container format container:<name|id>');
  }
  if (networks.length > 1) {
    throw new HrunError(
      'INVALID_ARGUMENT',
      'container sharing network namespace with another container or host cannot be connected to any other network',
    );
  }
  const conflict = conflictsOf(flags).find(([given]) => given);
  if (conflict !== undefined) {
    throw new HrunError('INVALID_ARGUMENT', conflict[1], { hint: `give it to the container ${reference}` });
  }
  return { ...noNetwork, none: false, publishAll: false, expose: [], sharedWith: reference };
}

function conflictsOf(flags: CreateFlags): readonly (readonly [boolean, string])[] {
  const conflict = (what: string) => `conflicting options: ${what} and the network mode`;
  const inside = (what: string) => `conflicting options: ${what} and the container type network mode`;
  return [
    [flags.hostname !== undefined, conflict('hostname')],
    [flags.domainname !== undefined, conflict('domainname')],
    [flags.dns.length + flags.dnsSearch.length + flags.dnsOption.length > 0, conflict('dns')],
    [flags.addHost.length > 0, conflict('custom host-to-IP mapping')],
    [flags.macAddress !== undefined, conflict('mac-address')],
    [flags.publish.length > 0 || flags.publishAll === true, inside('port publishing')],
    [flags.expose.length > 0, inside('port exposing')],
    [
      flags.ip !== undefined || flags.ip6 !== undefined,
      'user specified IP address is supported on user defined networks only',
    ],
    [
      flags.networkAlias.length > 0,
      'network-scoped alias is supported only for containers in user defined networks',
    ],
    [flags.egress !== undefined, inside('--egress')],
    [flags.netRate !== undefined, inside('--net-rate')],
    // what a microVM is made of
    [flags.kernel !== undefined, inside('--kernel')],
    [flags.accel !== undefined, inside('--accel')],
    [flags.cold === true, inside('--cold')],
    [flags.templateScope !== undefined, inside('--template-scope')],
    [flags.allowWeakerJail.length > 0, inside('--allow-weaker-jail')],
  ];
}
