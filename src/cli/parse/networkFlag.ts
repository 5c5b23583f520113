import { HrunError } from '../../base/errors.ts';
import type { ContainerNetwork } from '../../network/containerNetwork.ts';
import { formatIp, parseIp } from '../../network/ipAddress.ts';
import { parseMac } from '../../network/macAddress.ts';
import { csvFields } from './csvFields.ts';

type Connection = ContainerNetwork['connections'][number];

/**
 * `NAME`, or `name=NAME[,alias=ALIAS][,ip=ADDRESS][,ip6=ADDRESS][,mac-address=ADDRESS]` as Docker has it.
 * @throws HrunError INVALID_ARGUMENT
 */
export function parseNetwork(text: string): Connection {
  if (!text.includes('=')) return { network: text, aliases: [] };
  const wrong = (why: string) =>
    new HrunError('INVALID_ARGUMENT', `invalid network "${text}": ${why}`, {
      hint: 'write NAME, or name=NAME,alias=ALIAS,ip=ADDRESS,ip6=ADDRESS,mac-address=ADDRESS',
    });
  const aliases: string[] = [];
  const single = new Map<string, string>();
  for (const field of csvFields(text, 'the network')) {
    const at = field.indexOf('=');
    const [key, value] = [field.slice(0, at).trim().toLowerCase(), field.slice(at + 1).trim()];
    if (at < 1 || value === '') throw wrong(`"${field}" is no KEY=VALUE`);
    if (key === 'alias') aliases.push(value.toLowerCase());
    else if (!['name', 'ip', 'ip6', 'mac-address'].includes(key)) throw wrong(`unknown key "${key}"`);
    else if (single.has(key)) throw wrong(`"${key}" comes twice`);
    else single.set(key, value);
  }
  const network = single.get('name');
  if (network === undefined) throw wrong('it has no name');
  const [ip, ip6, mac] = [single.get('ip'), single.get('ip6'), single.get('mac-address')];
  const address = (of: string) => formatIp(parseIp(of, `network ${network}:`));
  return {
    network,
    aliases,
    ...(ip !== undefined && { ipv4: address(ip) }),
    ...(ip6 !== undefined && { ipv6: address(ip6) }),
    ...(mac !== undefined && { mac: parseMac(mac) }),
  };
}
