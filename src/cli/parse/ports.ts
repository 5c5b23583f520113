import { HrunError } from '../../base/errors.ts';
import type { PortWish } from '../../network/containerNetwork.ts';
import { readIp } from '../../network/ipAddress.ts';

interface PortRange {
  readonly first: number;
  readonly last: number;
}

/**
 * `[ip:][hostPort[-last]:]containerPort[-last][/protocol]` as Docker has it, one wish for each port.
 * @throws HrunError INVALID_ARGUMENT
 */
export function parsePublish(text: string): PortWish[] {
  const wrong = (why: string) =>
    new HrunError('INVALID_ARGUMENT', `invalid port "${text}": ${why}`, {
      hint: 'write [IP:][HOST_PORT:]CONTAINER_PORT[/tcp|udp|sctp], such as 8080:80',
    });
  const match = /^(?:(\[[^\]]*\]|[^:[\]]*):)?(?:([^:]*):)?([^:/]+)(?:\/(\w+))?$/.exec(text);
  if (match === null) throw wrong('not understood');
  const [, before, between, guestText = '', protocolText = 'tcp'] = match;
  // one part before the port is the host's port, two are address and port
  const [hostIp, hostText] =
    between === undefined ? ['', before ?? ''] : [(before ?? '').replaceAll(/[[\]]/g, ''), between];
  if (hostIp !== '' && readIp(hostIp) === undefined) throw wrong(`"${hostIp}" is no IP address`);
  const protocol = protocolText.toLowerCase();
  if (protocol !== 'tcp' && protocol !== 'udp' && protocol !== 'sctp')
    throw wrong(`unknown protocol "${protocolText}"`);
  const guest = parseRange(guestText);
  const host = hostText === '' ? undefined : parseRange(hostText);
  if (guest === undefined || (hostText !== '' && host === undefined)) throw wrong('a port is 1 to 65535');
  const count = guest.last - guest.first + 1;
  if (host === undefined) return expand(guest, hostIp, protocol, () => undefined);
  if (count === 1) return expand(guest, hostIp, protocol, () => host);
  if (host.last - host.first + 1 !== count) throw wrong('both ranges must have the same number of ports');
  return expand(guest, hostIp, protocol, (index) => ({
    first: host.first + index,
    last: host.first + index,
  }));
}

/** `80`, `80/tcp`, `8000-8010/udp`. @throws HrunError INVALID_ARGUMENT */
export function parseExposed(text: string): string {
  const [ports = '', protocol = 'tcp', ...rest] = text.toLowerCase().split('/');
  if (parseRange(ports) === undefined || rest.length > 0 || !['tcp', 'udp', 'sctp'].includes(protocol)) {
    throw new HrunError('INVALID_ARGUMENT', `invalid port to expose: "${text}"`);
  }
  return `${ports}/${protocol}`;
}

function expand(
  guest: PortRange,
  hostIp: string,
  protocol: PortWish['protocol'],
  hostPortsOf: (index: number) => PortRange | undefined,
): PortWish[] {
  return Array.from({ length: guest.last - guest.first + 1 }, (_, index) => {
    const hostPorts = hostPortsOf(index);
    return { hostIp, guestPort: guest.first + index, protocol, ...(hostPorts && { hostPorts }) };
  });
}

function parseRange(text: string): PortRange | undefined {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  const [first, last] = [Number(match?.[1]), Number(match?.[2] ?? match?.[1])];
  return match !== null && first >= 1 && last >= first && last <= 65_535 ? { first, last } : undefined;
}
