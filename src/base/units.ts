import { HrunError } from './errors.ts';

const sizePattern = /^(\d+(?:\.\d+)?) ?([kmgtp])?i?b?$/i;
const durationPart = /(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/y;
const secondMs = 1000;
const msPerUnit: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: secondMs,
  m: 60 * secondMs,
  h: 3600 * secondMs,
};

/**
 * Bytes of a size as Docker reads it: `512m`, `1.5g`, `64 KiB`, `1048576`; a suffix is a power of 1024.
 * @throws HrunError INVALID_ARGUMENT naming `what`
 */
export function parseSize(text: string, what: string): number {
  const match = sizePattern.exec(text.trim());
  const number = Number(match?.[1]);
  const power = 'kmgtp'.indexOf((match?.[2] ?? '').toLowerCase() || '-') + 1;
  const bytes = Math.floor(number * 1024 ** power);
  if (match === null || !Number.isSafeInteger(bytes)) {
    throw new HrunError('INVALID_ARGUMENT', `${what}: "${text}" is not a size`, {
      hint: 'write a number and b, k, m or g: 512m, 1.5g',
    });
  }
  return bytes;
}

/** Milliseconds of a duration as Go writes it (`1h30m`, `1.5s`, `-10s` is refused), or undefined when it is none. */
export function parseDurationMs(text: string): number | undefined {
  if (text === '0') return 0;
  let totalMs = 0;
  durationPart.lastIndex = 0;
  while (durationPart.lastIndex < text.length) {
    const match = durationPart.exec(text);
    if (match === null) return undefined;
    totalMs += Number(match[1]) * (msPerUnit[match[2] ?? ''] ?? Number.NaN);
  }
  return text === '' ? undefined : totalMs;
}

/** `1.24MB`: powers of 1000 and `digits` significant digits, as Docker prints disk sizes. */
export function formatSize(bytes: number, digits = 4): string {
  return scaled(bytes, 1000, ['B', 'kB', 'MB', 'GB', 'TB', 'PB'], digits);
}

/** `7.656GiB`: powers of 1024, as Docker prints memory. */
export function formatMemory(bytes: number): string {
  return scaled(bytes, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'], 4);
}

/** A length of time in words, as Docker prints it: `Less than a second`, `About an hour`, `3 weeks`. */
export function formatDuration(durationMs: number): string {
  const seconds = Math.floor(durationMs / 1000);
  const minutes = Math.floor(seconds / 60);
  const exactHours = durationMs / 3_600_000;
  const hours = Math.floor(exactHours + 0.5);
  if (seconds < 1) return 'Less than a second';
  if (seconds === 1) return '1 second';
  if (seconds < 60) return `${seconds} seconds`;
  if (minutes === 1) return 'About a minute';
  if (minutes < 60) return `${minutes} minutes`;
  if (hours === 1) return 'About an hour';
  if (hours < 48) return `${hours} hours`;
  if (hours < 24 * 7 * 2) return `${Math.floor(hours / 24)} days`;
  if (hours < 24 * 30 * 2) return `${Math.floor(hours / 24 / 7)} weeks`;
  if (hours < 24 * 365 * 2) return `${Math.floor(hours / 24 / 30)} months`;
  return `${Math.floor(exactHours / 24 / 365)} years`;
}

/** `2 minutes ago`. */
export function formatAgo(thenMs: number, nowMs: number): string {
  return `${formatDuration(Math.max(0, nowMs - thenMs))} ago`;
}

function scaled(value: number, base: number, units: readonly string[], digits: number): string {
  let rest = value;
  let unit = 0;
  while (rest >= base && unit < units.length - 1) {
    rest /= base;
    unit += 1;
  }
  return `${Number(rest.toPrecision(digits))}${units[unit]}`;
}
