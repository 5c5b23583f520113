/** Text of an untrusted source, fit for a terminal: line ends become "\n", other control characters "?", non-UTF-8 U+FFFD. */
export function printable(source: Uint8Array | string): string {
  const text = typeof source === 'string' ? source : Buffer.from(source).toString('utf8');
  return text.replaceAll(/\r*\n/g, '\n').replaceAll(/[^\P{C}\n\t]/gu, '?');
}

/** `printable` on one line, cut to `maxLength` characters. */
export function printableLine(source: Uint8Array | string, maxLength = 2000): string {
  const line = printable(source)
    .trim()
    .replaceAll(/\s*\n\s*/g, '; ');
  return line.length <= maxLength ? line : `${line.slice(0, maxLength - 1)}…`;
}
