import { HrunError } from '../../base/errors.ts';
import { parseSize } from '../../base/units.ts';
import type { ContainerNetwork } from '../../network/containerNetwork.ts';
import type { EgressPolicy } from '../../network/endpoint.ts';
import { formatIp, formatPrefix, networkOf, parseIp, parsePrefix } from '../../network/ipAddress.ts';

/** `none`, or what may be reached: `all`, `allow=10.0.0.0/8,example.com:443`. Undefined: all. */
export function parseEgress(text: string): EgressPolicy | undefined {
  if (text === 'all') return undefined;
  if (text === 'none') return { allow: [] };
  const list = /^allow=(.+)$/.exec(text)?.[1];
  if (list === undefined) {
    throw new HrunError('INVALID_ARGUMENT', `invalid egress policy: "${text}"`, {
      hint: 'write none, all, or allow=CIDR|NAME[:PORT],…',
    });
  }
  return { allow: list.split(',').map(parseAllowance) };
}

function parseAllowance(text: string): EgressPolicy['allow'][number] {
  // an IPv6 range with a port is in brackets
  const match = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text);
  const target = match === null ? text : (match[1] ?? match[2] ?? '');
  const port = match?.[3] === undefined ? undefined : Number(match[3]);
  if (port !== undefined && (port < 1 || port > 65_535)) {
    throw new HrunError('INVALID_ARGUMENT', `egress to "${text}": a port is 1 to 65535`);
  }
  const withPort = port === undefined ? {} : { port };
  if (/^[0-9.]+(\/\d+)?$/.test(target) || target.includes(':')) {
    return { range: formatPrefix(networkOf(parsePrefix(target, 'egress to'))), ...withPort };
  }
  const label = '[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?';
  if (!new RegExp(`^${label}(\\.${label})*$`, 'i').test(target) || target.length > 253) {
    throw new HrunError('INVALID_ARGUMENT', `egress to "${text}": neither a range of addresses nor a name`);
  }
  return { name: target.toLowerCase(), ...withPort };
}

/** `NAME:ADDRESS` or `NAME=ADDRESS`; the address may be `host-gateway`. @throws HrunError INVALID_ARGUMENT */
export function parseExtraHost(text: string): ContainerNetwork['extraHosts'][number] {
  const at = text.search(/[:=]/);
  const [name, rest] = [text.slice(0, at), text.slice(at + 1).replaceAll(/^\[|\]$/g, '')];
  if (at < 1 || !/^[^\s:=]+$/.test(name)) {
    throw new HrunError('INVALID_ARGUMENT', `bad format for add-host: "${text}"`, {
      hint: 'write NAME:ADDRESS',
    });
  }
  if (rest === 'host-gateway') return { name, address: rest };
  return { name, address: formatIp(parseIp(rest, `add-host ${name}:`)) };
}

/** The address of a name server. */
export function parseDns(text: string): string {
  return formatIp(parseIp(text, 'the name server'));
}

/** Bytes per second of `10m`, `1.5g/s`. */
export function parseRate(text: string): number {
  return parseSize(text.replace(/\/s$/, ''), '--net-rate');
}

/** A domain of a search list; `.` is none. */
export function parseDomain(text: string): string {
  if (text === '.' || /^[a-z0-9_.-]{1,253}$/i.test(text)) return text;
  throw new HrunError('INVALID_ARGUMENT', `"${text}" is no domain`);
}

/** An option of resolv.conf(5), one word. */
export function parseDnsOption(text: string): string {
  if (/^[a-z0-9:_-]+$/i.test(text)) return text;
  throw new HrunError('INVALID_ARGUMENT', `"${text}" is no option of resolv.conf`);
}
