import { constants } from 'node:os';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { HrunError } from '../base/errors.ts';
import { parseDurationMs, parseSize } from '../base/units.ts';

/**
 * Makes a command line of Go's flag parser one of commander's: `--tty=true` is `--tty`, `--tty=false` is left out (or
 * becomes `--no-tty` where that exists). With `passThrough` nothing after the first argument is touched.
 */
export function normaliseBooleans(
  argv: readonly string[],
  options: readonly Option[],
  passThrough: boolean,
): string[] {
  const out: string[] = [];
  for (let at = 0; at < argv.length; at++) {
    const argument = argv[at] ?? '';
    if (argument === '--' || (passThrough && !isOption(argument))) return [...out, ...argv.slice(at)];
    const [flag = '', value] = splitAtEquals(argument);
    const option = findOption(flag, options);
    if (option?.isBoolean() && value !== undefined && isOption(argument)) {
      out.push(...booleanFlag(option, flag, value, options));
    } else {
      out.push(argument);
      if (option?.required && value === undefined && !hasAttachedValue(argument, option)) {
        at += 1;
        if (at < argv.length) out.push(argv[at] ?? '');
      }
    }
  }
  return out;
}

function isOption(argument: string): boolean {
  return argument.startsWith('-') && argument !== '-';
}

function splitAtEquals(argument: string): [string, string | undefined] {
  const equals = argument.indexOf('=');
  return equals < 0 ? [argument, undefined] : [argument.slice(0, equals), argument.slice(equals + 1)];
}

/** The option of `--name`, or the one that ends a cluster of short ones (`-itv`). */
function findOption(flag: string, options: readonly Option[]): Option | undefined {
  if (flag.startsWith('--')) return options.find(({ long }) => long === flag);
  for (const letter of flag.slice(1)) {
    const option = options.find(({ short }) => short === `-${letter}`);
    if (option === undefined || option.required) return option;
  }
  return options.find(({ short }) => short === `-${flag.at(-1)}`);
}

/** `-eA=b`: the value follows the letter. */
function hasAttachedValue(argument: string, option: Option): boolean {
  return !argument.startsWith('--') && !argument.endsWith(option.short?.slice(1) ?? '\0');
}

function booleanFlag(option: Option, flag: string, value: string, options: readonly Option[]): string[] {
  if (['true', '1', 't', 'T', 'TRUE', 'True'].includes(value)) return [flag];
  if (!['false', '0', 'f', 'F', 'FALSE', 'False'].includes(value)) {
    throw new HrunError('INVALID_ARGUMENT', `invalid argument "${value}" for "${flag}": not true or false`);
  }
  const negation = `--no-${option.name()}`;
  return options.some(({ long }) => long === negation) ? [negation] : [];
}

/** Adds a flag that may be given several times; its values in order. */
export function addList(command: Command, flags: string, description: string): void {
  const option = new Option(flags, description).default([], 'none');
  command.addOption(option.argParser((value: string, list: readonly string[]) => [...list, value]));
}

/** For `argParser`: the failure becomes a usage error that names the flag. */
export function checked<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      if (error instanceof HrunError) throw new InvalidArgumentError(error.message);
      throw error;
    }
  };
}

/** For options of a size in bytes; `what` names it in errors. */
export function sizeOption(what: string): (text: string) => number {
  return checked((text) => parseSize(text, what));
}

export function integerOption(min: number, max = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || value < min || value > max) {
      const range = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;
      throw new InvalidArgumentError(`not a whole number ${range}.`);
    }
    return value;
  };
}

/** Number of a signal given as `TERM`, `SIGTERM` or `15`. @throws HrunError INVALID_ARGUMENT */
export function parseSignal(text: string): number {
  const name = text.toUpperCase();
  const known = new Map<string, number>(Object.entries(constants.signals));
  const realTime = /^(?:SIG)?RTM(IN\+|AX-)(\d+)$/.exec(name);
  let number: number | undefined;
  if (/^\d+$/.test(text)) number = Number(text);
  else if (realTime !== null)
    number = realTime[1] === 'IN+' ? 34 + Number(realTime[2]) : 64 - Number(realTime[2]);
  else number = known.get(name.startsWith('SIG') ? name : `SIG${name}`);
  if (number === undefined || number < 1 || number > 64) {
    throw new HrunError('INVALID_ARGUMENT', `invalid signal: ${text}`);
  }
  return number;
}

/**
 * A moment as Docker's `--since` takes it: RFC 3339, a date, seconds since the epoch, or a duration before now.
 * @throws HrunError INVALID_ARGUMENT
 */
export function parseMomentMs(text: string, nowMs: number): number {
  const durationMs = parseDurationMs(text.replace(/^-/, ''));
  if (durationMs !== undefined && text !== '0') return nowMs - durationMs;
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  // A date without a zone is local time, also without a time of day.
  const zoned = /(?:Z|[+-]\d\d:?\d\d)$/i.test(text) || text.includes('T') ? text : `${text}T00:00:00`;
  const moment = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(zoned) : Number.NaN;
  if (Number.isNaN(moment)) {
    throw new HrunError('INVALID_ARGUMENT', `"${text}" is neither a time nor a duration`, {
      hint: 'write 2026-01-31T12:00:00Z, 1767225600 or 10m',
    });
  }
  return moment;
}
