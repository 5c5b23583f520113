/** JSON as Docker prints it with `inspect`: four blanks. Maps are objects, bigints are numbers. */
export function prettyJson(value: unknown): string {
  return JSON.stringify(value, plain, 4);
}

/** One line of JSON. */
export function lineJson(value: unknown): string {
  return JSON.stringify(value, plain);
}

function plain(_key: string, value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries(value);
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'function') return undefined;
  return value;
}
