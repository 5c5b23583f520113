import { isIPv4, isIPv6 } from 'node:net';
import { HrunError } from '../base/errors.ts';

/** An address of either family. */
export interface IpAddress {
  readonly family: 4 | 6;
  readonly value: bigint;
}

/** A range of addresses by its prefix; `base` need not be the lowest of them. */
export interface IpPrefix {
  readonly base: IpAddress;
  /** Bits. */
  readonly length: number;
}

const bits = { 4: 32, 6: 128 } as const;

/** An address in its usual notation, without a zone; undefined for anything else. */
export function readIp(text: string): IpAddress | undefined {
  if (isIPv4(text)) return { family: 4, value: readIPv4(text) };
  if (isIPv6(text) && !text.includes('%')) return { family: 6, value: readIPv6(text) };
  return undefined;
}

/** As `readIp`. @param what names the value in the error. @throws HrunError INVALID_ARGUMENT */
export function parseIp(text: string, what: string): IpAddress {
  const address = readIp(text);
  if (address === undefined) throw new HrunError('INVALID_ARGUMENT', `${what} "${text}" is no IP address`);
  return address;
}

/** `10.0.0.0/8`, `fd00::/64`; an address alone is a range of one. @throws HrunError INVALID_ARGUMENT */
export function parsePrefix(text: string, what: string): IpPrefix {
  const [address = '', length, ...rest] = text.split('/');
  const base = readIp(address);
  if (base !== undefined && rest.length === 0) {
    const count = length === undefined ? bits[base.family] : Number(length);
    if ((length === undefined || /^\d{1,3}$/.test(length)) && count <= bits[base.family]) {
      return { base, length: count };
    }
  }
  throw new HrunError('INVALID_ARGUMENT', `${what} "${text}" is no range of IP addresses`, {
    hint: 'write it like 10.1.0.0/24 or fd00:1::/64',
  });
}

/** The usual short notation (RFC 5952). */
export function formatIp({ family, value }: IpAddress): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 0xffn).join('.');
  const groups = Array.from({ length: 8 }, (_, index) =>
    ((value >> BigInt(112 - 16 * index)) & 0xffffn).toString(16),
  );
  const zeros = longestZeros(groups);
  if (zeros.length < 2) return groups.join(':');
  const [before, after] = [groups.slice(0, zeros.start), groups.slice(zeros.start + zeros.length)];
  return `${before.join(':')}::${after.join(':')}`;
}

export function formatPrefix({ base, length }: IpPrefix): string {
  return `${formatIp(base)}/${length}`;
}

/** In network byte order. */
export function ipBytes({ family, value }: IpAddress): Buffer {
  return Buffer.from(value.toString(16).padStart(bits[family] / 4, '0'), 'hex');
}

/** Of 4 or 16 bytes in network byte order; undefined for another number. */
export function ipFromBytes(bytes: Uint8Array): IpAddress | undefined {
  if (bytes.length !== 4 && bytes.length !== 16) return undefined;
  return { family: bytes.length === 4 ? 4 : 6, value: BigInt(`0x${Buffer.from(bytes).toString('hex')}`) };
}

/** The range with the lowest of its addresses as base. */
export function networkOf({ base, length }: IpPrefix): IpPrefix {
  const shift = BigInt(bits[base.family] - length);
  return { base: { family: base.family, value: (base.value >> shift) << shift }, length };
}

export function contains(range: IpPrefix, address: IpAddress): boolean {
  if (range.base.family !== address.family) return false;
  const shift = BigInt(bits[address.family] - range.length);
  return range.base.value >> shift === address.value >> shift;
}

export function overlaps(a: IpPrefix, b: IpPrefix): boolean {
  return a.length <= b.length ? contains(a, b.base) : contains(b, a.base);
}

/** The address `count` above the lowest of the range; not checked to be inside. */
export function addressAt(range: IpPrefix, count: bigint): IpAddress {
  const { base } = networkOf(range);
  return { family: base.family, value: base.value + count };
}

/** How many addresses the range has. */
export function sizeOf({ base, length }: IpPrefix): bigint {
  return 1n << BigInt(bits[base.family] - length);
}

export function sameIp(a: IpAddress, b: IpAddress): boolean {
  return a.family === b.family && a.value === b.value;
}

function readIPv4(text: string): bigint {
  return text.split('.').reduce((value, part) => (value << 8n) | BigInt(part), 0n);
}

function readIPv6(text: string): bigint {
  const [head = '', tail] = text.split('::');
  const front = groupsOf(head);
  const back = tail === undefined ? [] : groupsOf(tail);
  const zeros = Array.from({ length: 8 - front.length - back.length }, () => 0n);
  return [...front, ...zeros, ...back].reduce((value, group) => (value << 16n) | group, 0n);
}

/** The last of them may be an IPv4 address. */
function groupsOf(text: string): bigint[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [BigInt(`0x${group}`)];
    const value = readIPv4(group);
    return [value >> 16n, value & 0xffffn];
  });
}

function longestZeros(groups: readonly string[]): { readonly start: number; readonly length: number } {
  let longest = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === '0') length += 1;
    if (length > longest.length) longest = { start, length };
  }
  return longest;
}
