import { HrunError } from '../../base/errors.ts';
import type { PublishedPort } from '../endpoint.ts';
import type { CniConfig } from './cniConfig.ts';

/** What a user wants of a CNI network besides an interface. */
export interface CniWishes {
  readonly ports: readonly PublishedPort[];
  readonly aliases: readonly string[];
  readonly addresses: readonly string[];
  readonly mac: string | undefined;
  /** Most bytes per second in each direction. */
  readonly rateBytes: number | undefined;
}

/** What the bandwidth plugin takes. */
const mostBurstBits = Math.floor((2 ** 32 - 1) / 8);

/**
 * The wishes as what the conventions of CNI call capabilities: given to the plugins that declare them.
 * @throws HrunError INVALID_ARGUMENT for a wish that no plugin of the network takes
 */
export function cniCapabilities(config: CniConfig, wishes: CniWishes): Record<string, unknown> {
  const { ports, aliases, addresses, mac, rateBytes } = wishes;
  const wanted: readonly (readonly [string, string, unknown])[] = [
    ...(ports.length > 0 ? [['--publish', 'portMappings', portMappings(ports)] as const] : []),
    ...(aliases.length > 0 ? [['--network-alias', 'aliases', [...aliases]] as const] : []),
    ...(addresses.length > 0 ? [['--ip', 'ips', [...addresses]] as const] : []),
    ...(mac === undefined ? [] : [['--mac-address', 'mac', mac] as const]),
    ...(rateBytes === undefined ? [] : [['--net-rate', 'bandwidth', bandwidth(rateBytes)] as const]),
  ];
  for (const [option, capability] of wanted) {
    if (config.plugins.some(({ capabilities }) => declares(capabilities, capability))) continue;
    throw new HrunError(
      'INVALID_ARGUMENT',
      `CNI network ${config.name} takes no ${option}: none of its plugins has the capability ${capability}`,
    );
  }
  return Object.fromEntries(wanted.map(([, capability, value]) => [capability, value]));
}

/** Whether a plugin's own list of capabilities has this one. */
export function declares(capabilities: unknown, name: string): boolean {
  return (
    typeof capabilities === 'object' &&
    capabilities !== null &&
    Object.entries(capabilities).some(([key, value]) => key === name && value === true)
  );
}

function portMappings(ports: readonly PublishedPort[]): object[] {
  return ports.map(({ hostIp, hostPort, guestPort, protocol }) => ({
    hostPort,
    containerPort: guestPort,
    protocol,
    ...(hostIp !== '' && { hostIP: hostIp }),
  }));
}

/** In bits, per second and at once: a tenth of a second's worth, or a packet of the largest kind. */
function bandwidth(rateBytes: number): object {
  const rate = rateBytes * 8;
  const burst = Math.min(Math.max(Math.round(rate / 10), 64 * 1024 * 8), mostBurstBits);
  return { ingressRate: rate, ingressBurst: burst, egressRate: rate, egressBurst: burst };
}
