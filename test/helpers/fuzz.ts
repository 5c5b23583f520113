import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { type ErrorCode, isHrunError } from '../../src/base/errors.ts';
import { report } from './report.ts';

/** `make fuzz` sets it; without, each target runs its corpus and a few hundred inputs. */
const seconds = Number(process.env.HRUN_FUZZ_SECONDS ?? 0);
const corpusDirectory = join(import.meta.dirname, '../fuzz/corpus');

export interface FuzzTarget {
  /** Also the name of its directory in test/fuzz/corpus: inputs that are always tried, as they are. */
  readonly name: string;
  /** What inputs are made of, by damaging them. */
  readonly seeds: readonly Uint8Array[];
  /** How many places of a seed are damaged, at most (4). */
  readonly mostEdits?: number;
  /** Fails for an input that is not handled as it should. */
  check(bytes: Buffer): void | Promise<void>;
}

/** Declares a test that throws damaged inputs at a parser. A failure tells the seed and the shortest input. */
export function fuzz({ name, seeds, mostEdits = 4, check }: FuzzTarget): void {
  it(`${name}: holds against whatever comes`, async function () {
    this.timeout(seconds * 1000 + 60_000);
    let inputs = 0;
    const counted = async (bytes: Buffer) => {
      inputs += 1;
      await check(bytes);
    };
    for (const bytes of [...corpusOf(name), ...seeds]) await counted(Buffer.from(bytes));
    await fc.assert(
      fc.asyncProperty(damaged(seeds, mostEdits), counted),
      seconds > 0
        ? { numRuns: 2 ** 31 - 1, interruptAfterTimeLimit: seconds * 1000, markInterruptAsFailure: false }
        : { numRuns: 300 },
    );
    await report('fuzz', `host: ${name}`, { inputs });
  });
}

/** Runs `parse`; a refusal with one of `codes` is as good as a result, undefined then. Every other failure is thrown. */
export function unlessRefused<T>(codes: readonly ErrorCode[], parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (isHrunError(error) && codes.includes(error.code)) return undefined;
    throw error;
  }
}

/** As unlessRefused, for what takes its time. */
export async function unlessRejected<T>(
  codes: readonly ErrorCode[],
  parse: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await parse();
  } catch (error) {
    if (isHrunError(error) && codes.includes(error.code)) return undefined;
    throw error;
  }
}

function corpusOf(name: string): Buffer[] {
  const directory = join(corpusDirectory, name);
  try {
    return readdirSync(directory).map((file) => readFileSync(join(directory, file)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

const place = fc.nat(1_000_000);
const numbers = [
  '0',
  '-1',
  '255',
  '65536',
  '4294967296',
  '9223372036854775808',
  '18446744073709551616',
  '1e999',
  '0.1',
];
const texts = ['"', '\\', '{', '}', '[', ']', 'null', 'true', '\0', '\n', '/../', '\u202e', '__proto__', ','];
type Edit = (bytes: Buffer) => Buffer;

const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.tuple(place, fc.nat(7)).map(
    ([at, bit]): Edit =>
      (bytes) => {
        const changed = Buffer.from(bytes);
        if (changed.length > 0)
          changed[at % changed.length] = (changed[at % changed.length] ?? 0) ^ (1 << bit);
        return changed;
      },
  ),
  fc.tuple(place, fc.uint8Array({ maxLength: 64 })).map(
    ([at, other]): Edit =>
      (bytes) => {
        const changed = Buffer.from(bytes);
        changed.set(other.subarray(0, changed.length), at % (Math.max(0, changed.length - other.length) + 1));
        return changed;
      },
  ),
  fc.tuple(place, fc.nat(200)).map(
    ([at, length]): Edit =>
      (bytes) =>
        spliced(bytes, at, length, Buffer.alloc(0)),
  ),
  fc.tuple(place, fc.nat(200)).map(
    ([at, length]): Edit =>
      (bytes) => {
        const from = at % (bytes.length + 1);
        return spliced(bytes, from, 0, bytes.subarray(from, from + length));
      },
  ),
  fc.tuple(place, fc.uint8Array({ maxLength: 40 })).map(
    ([at, more]): Edit =>
      (bytes) =>
        spliced(bytes, at, 0, more),
  ),
  fc.tuple(place, fc.constantFrom(...texts)).map(
    ([at, more]): Edit =>
      (bytes) =>
        spliced(bytes, at, 0, Buffer.from(more)),
  ),
  place.map(
    (at): Edit =>
      (bytes) =>
        bytes.subarray(0, at % (bytes.length + 1)),
  ),
  fc.tuple(place, fc.constantFrom(...numbers)).map(
    ([at, number]): Edit =>
      (bytes) => {
        const text = bytes.toString('latin1');
        const found = [...text.matchAll(/-?\d+/g)];
        const chosen = found[at % Math.max(1, found.length)];
        if (chosen === undefined) return bytes;
        return spliced(bytes, chosen.index, chosen[0].length, Buffer.from(number));
      },
  ),
);

/** A seed with a few places damaged, or bytes of no sense. */
function damaged(seeds: readonly Uint8Array[], mostEdits: number): fc.Arbitrary<Buffer> {
  const edits = fc.array(edit, { minLength: 1, maxLength: mostEdits });
  const changed = fc
    .tuple(fc.constantFrom(...seeds.map((seed) => Buffer.from(seed))), edits)
    .map(([seed, changes]) => changes.reduce<Buffer>((bytes, change) => change(bytes), seed));
  const noise = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
  return fc.oneof({ weight: 9, arbitrary: changed }, { weight: 1, arbitrary: noise });
}

function spliced(bytes: Buffer, at: number, removed: number, inserted: Uint8Array): Buffer {
  const from = at % (bytes.length + 1);
  return Buffer.concat([bytes.subarray(0, from), inserted, bytes.subarray(from + removed)]);
}
