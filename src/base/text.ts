/**
 * Text of others (a guest, a registry, an archive) made fit for a terminal and a log: control characters, which could
 * move the cursor or forge a line, become `?`; more than `maxLength` characters are cut off with an ellipsis.
 */
export function printable(text: string, maxLength = 200): string {
  return clip(
    text.replaceAll(/[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, '?'),
    maxLength,
  );
}

/** At most `maxLength` characters, the last an ellipsis when something was cut off. */
export function clip(text: string, maxLength: number): string {
  if (text.length <= maxLength) return text;
  return `${text.slice(0, Math.max(0, maxLength - 1)).replace(/[\ud800-\udbff]$/, '')}…`;
}

/** `1 container`, `2 containers`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
