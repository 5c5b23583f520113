import { HrunError } from '../../base/errors.ts';
import { parseSize } from '../../base/units.ts';

const drivers = ['json-file', 'local'];
/** Of one file: at least one chunk of output. */
const minimumBytes = 64 * 1024;
const mostFiles = 1000;

/**
 * `--log-driver` and `--log-opt`, with the options of Docker's json-file that bound a log. Undefined when none is given.
 * @throws HrunError INVALID_ARGUMENT
 */
export function parseLogOptions(
  driver: string | undefined,
  options: readonly string[],
): { readonly maxBytes?: number; readonly maxFiles?: number } | undefined {
  if (driver !== undefined && !drivers.includes(driver)) {
    throw new HrunError('INVALID_ARGUMENT', `unknown log driver: "${driver}"`, {
      hint: `the drivers are ${drivers.join(' and ')}: hrun logs reads both`,
    });
  }
  if (options.length === 0) return undefined;
  return Object.assign({}, ...options.map(parseOption));
}

function parseOption(text: string): { readonly maxBytes: number } | { readonly maxFiles: number } {
  const [name, value = ''] = text.split(/=(.*)/s);
  switch (name) {
    case 'max-size': {
      const maxBytes = parseSize(value, '--log-opt max-size');
      if (maxBytes >= minimumBytes) return { maxBytes };
      throw new HrunError('INVALID_ARGUMENT', `${value} is too little for a file of a log`, {
        hint: 'the minimum of max-size is 64k',
      });
    }
    case 'max-file': {
      const maxFiles = Number(value);
      if (/^\d+$/.test(value) && maxFiles >= 1 && maxFiles <= mostFiles) return { maxFiles };
      throw new HrunError('INVALID_ARGUMENT', `max-file must be 1 to ${mostFiles}, not "${value}"`);
    }
    default:
      throw new HrunError('INVALID_ARGUMENT', `unknown log option: "${name}"`, {
        hint: 'the options are max-size=SIZE and max-file=NUMBER',
      });
  }
}
