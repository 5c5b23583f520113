import { HrunError } from '../../base/errors.ts';

/** An option of runc's command line. */
export interface FlagSpec {
  readonly name: string;
  readonly aliases?: readonly string[];
  /** `strings`: may be given several times. */
  readonly kind: 'bool' | 'string' | 'strings';
  readonly description: string;
  /** What the other face has no option for. */
  readonly ociOnly?: true;
}

export interface ParsedFlags {
  readonly flags: Flags;
  /** What follows the options. */
  readonly args: readonly string[];
}

/** Options that were given, by their first name. */
export class Flags {
  readonly #values: ReadonlyMap<string, readonly string[]>;

  constructor(values: ReadonlyMap<string, readonly string[]>) {
    this.#values = values;
  }

  bool(name: string): boolean {
    return this.#values.get(name)?.at(-1) === 'true';
  }

  /** Whether it was given at all. */
  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** The last one counts; an empty value is none. */
  text(name: string): string | undefined {
    return this.#values.get(name)?.at(-1) || undefined;
  }

  list(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  /** @throws HrunError INVALID_ARGUMENT */
  integer(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(Number(text))) {
      throw usageError(`invalid value "${text}" for flag -${name}: parse error`);
    }
    return Number(text);
  }
}

/**
 * Options as Go's flag package takes them: one dash or two, `=` or the next argument, booleans with `=` only, and the
 * first argument that is none ends them.
 * @throws HrunError INVALID_ARGUMENT with the words of runc's parser
 */
export function parseGoFlags(specs: readonly FlagSpec[], argv: readonly string[]): ParsedFlags {
  const values = new Map<string, string[]>();
  let at = 0;
  for (; at < argv.length; at += 1) {
    const token = argv[at] ?? '';
    if (token === '--') {
      at += 1;
      break;
    }
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(token);
    if (match === null) break;
    const [, name = '', given] = match;
    const spec = findFlag(specs, name);
    if (spec === undefined) throw usageError(`flag provided but not defined: -${name}`);
    const taken = spec.kind === 'bool' ? booleanOf(name, given) : (given ?? argv[++at]);
    if (taken === undefined) throw usageError(`flag needs an argument: -${name}`);
    values.set(spec.name, [...(values.get(spec.name) ?? []), taken]);
  }
  return { flags: new Flags(values), args: argv.slice(at) };
}

export function findFlag(specs: readonly FlagSpec[], name: string): FlagSpec | undefined {
  return specs.find((spec) => spec.name === name || spec.aliases?.includes(name));
}

/** A command line that cannot be understood: the help of its verb is shown with it. */
export class UsageError extends HrunError {
  constructor(message: string) {
    super('INVALID_ARGUMENT', message);
  }
}

export function usageError(message: string): UsageError {
  return new UsageError(message);
}

function booleanOf(name: string, text = 'true'): string {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)) return 'true';
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text)) return 'false';
  throw usageError(`invalid boolean value "${text}" for -${name}: parse error`);
}
