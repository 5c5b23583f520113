import { z } from 'zod';
import { HrunError, messageOf } from '../base/errors.ts';
import { printable } from '../base/text.ts';

/** A config.json, process.json or resources document may be this long. */
export const maxSpecBytes = 10 * 1024 * 1024;
/** Objects and lists inside each other; a real document has fewer than ten. */
const maxDepth = 256;
const maxPathLength = 4096;
/** MAX_ARG_STRLEN of Linux: execve refuses a longer string. */
const maxArgumentLength = 131_072;
const maxItems = 4096;

/**
 * Reads one of the runtime-spec's JSON documents: bounded, fields that the schema does not know are ignored as runc
 * ignores them, and `null` stands for an absent field as in Go.
 * @param subject names the document in errors, e.g. "config.json"
 * @throws HrunError SPEC_INVALID that names the JSON path
 */
export function parseSpecJson<T>(schema: z.ZodType<T>, bytes: Uint8Array, subject: string): T {
  if (bytes.length > maxSpecBytes) {
    throw specInvalid(subject, `is longer than ${maxSpecBytes} bytes`);
  }
  if (depthOf(bytes) > maxDepth) throw specInvalid(subject, `is nested deeper than ${maxDepth} levels`);
  let document: unknown;
  try {
    document = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes), keepLargeIntegers);
  } catch (cause) {
    throw specInvalid(subject, `is no valid JSON: ${printable(messageOf(cause))}`, cause);
  }
  const result = schema.safeParse(document);
  if (result.success) return result.data;
  const { path, message } = result.error.issues[0] ?? { path: [], message: 'wrong' };
  const where = path.length === 0 ? '' : `${printable(path.map(String).join('.'))}: `;
  throw specInvalid(subject, `is invalid: ${where}${message}`, result.error);
}

/** @throws nothing; makes the error for a document that cannot be used */
export function specInvalid(subject: string, what: string, cause?: unknown): HrunError {
  return new HrunError('SPEC_INVALID', `${subject} ${what}`, { cause });
}

const noNul = (value: string): boolean => !value.includes('\0');
const nulMessage = 'contains a NUL';

export const shortText = z.string().max(255).refine(noNul, nulMessage);
export const pathText = z.string().max(maxPathLength).refine(noNul, nulMessage);
export const argumentText = z.string().max(maxArgumentLength).refine(noNul, nulMessage);

/** An absent field and `null` are the same. */
export function optional<T extends z.ZodType>(schema: T) {
  return schema.nullish().transform((value) => value ?? undefined);
}

export function flag() {
  return z
    .boolean()
    .nullish()
    .transform((value) => value ?? false);
}

export function text(schema: z.ZodType<string> = pathText) {
  return schema.nullish().transform((value) => value ?? '');
}

export function list<T extends z.ZodType>(item: T) {
  return z
    .array(item)
    .max(maxItems)
    .nullish()
    .transform((items) => items ?? []);
}

export function dictionary<T extends z.ZodType>(value: T) {
  return z
    .record(pathText, value)
    .refine((entries) => Object.keys(entries).length <= maxItems, 'has too many entries')
    .nullish()
    .transform((entries): Record<string, z.output<T>> => entries ?? {});
}

/** Go's uint32. */
export const uint32 = z.int().min(0).max(0xffff_ffff);
export const int32 = z.int().min(-0x8000_0000).max(0x7fff_ffff);
/** Go's uint64 and int64, whatever their size in JavaScript. */
export const uint64 = bigInteger(0n, 0xffff_ffff_ffff_ffffn);
export const int64 = bigInteger(-0x8000_0000_0000_0000n, 0x7fff_ffff_ffff_ffffn);

function bigInteger(least: bigint, most: bigint) {
  return z
    .union([z.bigint(), z.number().refine(Number.isInteger, 'is no integer')], 'is no integer')
    .transform(BigInt)
    .refine((value) => value >= least && value <= most, `is not between ${least} and ${most}`);
}

/** A double has 53 bits; what the document says of limits and seccomp's arguments has 64. */
function keepLargeIntegers(_key: string, value: unknown, context?: { readonly source?: string }): unknown {
  const source = context?.source;
  if (typeof value !== 'number' || Number.isSafeInteger(value) || source === undefined) return value;
  return /^-?\d{1,20}$/.test(source) ? BigInt(source) : value;
}

/** The deepest nesting outside of strings; broken documents are left to the parser. */
function depthOf(bytes: Uint8Array): number {
  let depth = 0;
  let deepest = 0;
  let inString = false;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (inString) {
      if (byte === 0x5c) at += 1;
      else if (byte === 0x22) inString = false;
    } else if (byte === 0x22) inString = true;
    else if (byte === 0x7b || byte === 0x5b) deepest = Math.max(deepest, ++depth);
    else if (byte === 0x7d || byte === 0x5d) depth -= 1;
  }
  return deepest;
}
