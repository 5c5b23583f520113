/** RFC 3339 with nine digits of a second, in UTC. */
export function utcNanoTime(timeNs: bigint): string {
  return `${new Date(milliseconds(timeNs)).toISOString().slice(0, 19)}.${nanoseconds(timeNs)}Z`;
}

/** RFC 3339 with nine digits of a second, in the daemon's time zone. */
export function localNanoTime(timeNs: bigint): string {
  const date = new Date(milliseconds(timeNs));
  const offsetMinutes = -date.getTimezoneOffset();
  const wall = new Date(date.getTime() + offsetMinutes * 60_000).toISOString().slice(0, 19);
  return `${wall}.${nanoseconds(timeNs)}${zone(offsetMinutes)}`;
}

function zone(offsetMinutes: number): string {
  if (offsetMinutes === 0) return 'Z';
  const size = Math.abs(offsetMinutes);
  const digits = (value: number) => String(value).padStart(2, '0');
  return `${offsetMinutes < 0 ? '-' : '+'}${digits(Math.floor(size / 60))}:${digits(size % 60)}`;
}

function milliseconds(timeNs: bigint): number {
  return Number(timeNs / 1_000_000n);
}

function nanoseconds(timeNs: bigint): string {
  return String(timeNs % 1_000_000_000n).padStart(9, '0');
}
