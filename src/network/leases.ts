import { HrunError } from '../base/errors.ts';
import {
  addressAt,
  contains,
  formatIp,
  formatPrefix,
  type IpPrefix,
  networkOf,
  parseIp,
  sizeOf,
} from './ipAddress.ts';

/** Ranges may be huge, guests are few: nobody has this many. */
const mostLeases = 65_536n;

export interface LeaseRequest {
  /** The gateway, with the length of the range's prefix. */
  readonly gateway: IpPrefix;
  /** Addresses in use, in their usual notation. */
  readonly taken: ReadonlySet<string>;
  /** Undefined: any. */
  readonly wanted?: string;
  /** For messages. */
  readonly network: string;
}

/**
 * An address for a guest: the one it wants, or the lowest that is free. Of IPv4 neither the first nor the last address
 * of a range is a guest's.
 * @throws HrunError INVALID_ARGUMENT for one outside the range, ALREADY_EXISTS for one in use, NETWORK_FAILED when all are
 */
export function chooseAddress({ gateway, taken, wanted, network }: LeaseRequest): string {
  const range = networkOf(gateway);
  if (wanted !== undefined) return checkWanted(wanted, gateway, taken, network);
  const size = sizeOf(range);
  const last = range.base.family === 4 ? size - 1n : size;
  const own = formatIp(gateway.base);
  for (let count = 1n; count < last && count <= mostLeases; count++) {
    const address = formatIp(addressAt(range, count));
    if (address !== own && !taken.has(address)) return address;
  }
  throw new HrunError(
    'NETWORK_FAILED',
    `network ${network} has no free address left in ${formatPrefix(range)}`,
  );
}

function checkWanted(wanted: string, gateway: IpPrefix, taken: ReadonlySet<string>, network: string): string {
  const range = networkOf(gateway);
  const address = parseIp(wanted, 'the address');
  const size = sizeOf(range);
  const outer = [addressAt(range, 0n), ...(address.family === 4 ? [addressAt(range, size - 1n)] : [])];
  const text = formatIp(address);
  if (!contains(range, address) || outer.some(({ value }) => value === address.value)) {
    throw new HrunError(
      'INVALID_ARGUMENT',
      `${text} is no address of network ${network}, which has ${formatPrefix(range)}`,
    );
  }
  if (text === formatIp(gateway.base) || taken.has(text)) {
    throw new HrunError('ALREADY_EXISTS', `address ${text} of network ${network} is already in use`);
  }
  return text;
}
