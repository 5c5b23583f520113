import { createHash } from 'node:crypto';
import type { Config } from '../base/config.ts';
import { HrunError } from '../base/errors.ts';
import { addressAt, formatPrefix, type IpPrefix, networkOf, parsePrefix } from './ipAddress.ts';
import type { NetworkDefinition } from './networkDefinition.ts';

const mtu = 1500;
const leastBits = { 4: 2, 6: 2 } as const;

/**
 * The network `bridge`, which is always there.
 * @param root of this daemon: two daemons have different ones
 * @throws HrunError INVALID_CONFIG naming the key
 */
export function builtInNetwork(
  { bridge, bridgeSubnet, bridgeSubnet6 }: Pick<Config, 'bridge' | 'bridgeSubnet' | 'bridgeSubnet6'>,
  root: string,
): NetworkDefinition {
  const gateway6 = bridgeSubnet6 === '' ? undefined : gatewayIn(bridgeSubnet6, 6, 'bridgeSubnet6');
  return {
    version: 1,
    id: createHash('sha256').update(`bridge of ${root}`).digest('hex'),
    name: 'bridge',
    createdAt: new Date(0).toISOString(),
    bridge,
    gateway4: gatewayIn(bridgeSubnet, 4, 'bridgeSubnet'),
    ...(gateway6 !== undefined && { gateway6 }),
    internal: false,
    mtu,
    labels: {},
  };
}

function gatewayIn(text: string, family: 4 | 6, key: string): string {
  const range = parse(text, key);
  const bits = family === 4 ? 32 : 128;
  if (range.base.family !== family || range.length > bits - leastBits[family]) {
    throw new HrunError('INVALID_CONFIG', `"${key}": "${text}" is no range of IPv${family} for a network`);
  }
  return formatPrefix({ base: addressAt(networkOf(range), 1n), length: range.length });
}

function parse(text: string, key: string): IpPrefix {
  try {
    return parsePrefix(text, key);
  } catch (cause) {
    throw new HrunError('INVALID_CONFIG', `"${key}": "${text}" is no range of IP addresses`, { cause });
  }
}
