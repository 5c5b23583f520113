import type { PublishedPort } from '../../network/endpoint.ts';

/** Where a published port is found on the host. */
export function hostsOf({ hostIp, hostPort }: PublishedPort): string[] {
  const addresses = hostIp === '' ? ['0.0.0.0', '::'] : [hostIp];
  return addresses.map((address) => `${address.includes(':') ? `[${address}]` : address}:${hostPort}`);
}
