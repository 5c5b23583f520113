import { HrunError } from '../../base/errors.ts';
import { allCapabilities } from '../../oci/capabilities.ts';
import type { Platform, Ulimit } from '../../runtime/runRequest.ts';

const ulimitNames = [
  ...['as', 'core', 'cpu', 'data', 'fsize', 'locks', 'memlock', 'msgqueue', 'nice', 'nofile', 'nproc'],
  ...['rss', 'rtprio', 'rttime', 'sigpending', 'stack'],
];

/** `CAP_NET_ADMIN` of `net_admin`, `NET_ADMIN` or itself; `ALL`. @throws HrunError INVALID_ARGUMENT */
export function parseCapability(text: string): string {
  const upper = text.toUpperCase();
  if (upper === 'ALL') return upper;
  const name = upper.startsWith('CAP_') ? upper : `CAP_${upper}`;
  if (!allCapabilities.includes(name)) {
    throw new HrunError('INVALID_ARGUMENT', `unknown capability: "${text}"`, {
      hint: 'capabilities(7) lists them; ALL means every one',
    });
  }
  return name;
}

/** `nofile=1024:2048`, `core=-1`; one number is both limits. @throws HrunError INVALID_ARGUMENT */
export function parseUlimit(text: string): Ulimit {
  const match = /^([a-z]+)=(-1|\d+|unlimited)(?::(-1|\d+|unlimited))?$/.exec(text);
  const [, name = '', softText = '', hardText = softText] = match ?? [];
  if (!ulimitNames.includes(name)) {
    throw new HrunError('INVALID_ARGUMENT', `invalid ulimit: "${text}"`, {
      hint: `write NAME=SOFT[:HARD] with one of ${ulimitNames.join(', ')}`,
    });
  }
  const [soft, hard] = [limitOf(softText), limitOf(hardText)];
  if (hard !== -1 && (soft === -1 || soft > hard)) {
    throw new HrunError('INVALID_ARGUMENT', `ulimit ${text}: the soft limit is above the hard limit`);
  }
  return { type: `RLIMIT_${name.toUpperCase()}`, soft, hard };
}

function limitOf(text: string): number {
  return text === 'unlimited' ? -1 : Number(text);
}

/** `linux/arm64/v8`, `linux/amd64`, `arm64`. @throws HrunError INVALID_ARGUMENT */
export function parsePlatform(text: string): Platform {
  const parts = text.toLowerCase().split('/');
  const [os = '', architecture = '', variant] = parts.length === 1 ? ['linux', ...parts] : parts;
  const wellFormed = parts.length <= 3 && parts.every((part) => /^[a-z0-9_.-]+$/.test(part));
  if (!wellFormed || os !== 'linux' || architecture === '') {
    throw new HrunError('INVALID_ARGUMENT', `invalid platform: "${text}"`, {
      hint: 'write linux/ARCHITECTURE[/VARIANT], such as linux/amd64',
    });
  }
  const names: Readonly<Record<string, string>> = { x86_64: 'amd64', 'x86-64': 'amd64', aarch64: 'arm64' };
  return { os, architecture: names[architecture] ?? architecture, ...(variant !== undefined && { variant }) };
}

/** A number of CPUs, maybe a fraction. @throws HrunError INVALID_ARGUMENT */
export function parseCpus(text: string): number {
  const cpus = Number(text);
  if (!/^\d*\.?\d+$/.test(text) || !(cpus > 0)) {
    throw new HrunError('INVALID_ARGUMENT', `invalid number of CPUs: "${text}"`);
  }
  return cpus;
}

/** @throws HrunError INVALID_ARGUMENT */
export function parseContainerName(text: string): string {
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(text) || text.length > 128) {
    throw new HrunError('INVALID_ARGUMENT', `invalid container name "${text}"`, {
      hint: 'a name has 2 to 128 of the characters a-z, A-Z, 0-9, "_", "." and "-", and begins with a letter or digit',
    });
  }
  return text;
}

/** @throws HrunError INVALID_ARGUMENT */
export function parseHostname(text: string): string {
  if (text.length > 64 || !/^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$/.test(text)) {
    throw new HrunError('INVALID_ARGUMENT', `invalid host name "${text}"`);
  }
  return text;
}

/** `net.ipv4.ip_forward=1`. @throws HrunError INVALID_ARGUMENT */
export function parseSysctl(text: string): readonly [name: string, value: string] {
  const match = /^([a-z0-9_]+(?:[./][a-zA-Z0-9_:.-]+)+)=(.*)$/.exec(text);
  if (match === null || text.includes('..')) {
    throw new HrunError('INVALID_ARGUMENT', `invalid sysctl: "${text}"`, { hint: 'write NAME=VALUE' });
  }
  return [match[1] ?? '', match[2] ?? ''];
}
