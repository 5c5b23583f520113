import { HrunError } from '../../base/errors.ts';
import { parseSignal } from '../flags.ts';
import type { OciVerb } from './ociVerb.ts';

export const kill: OciVerb = {
  name: 'kill',
  summary: "send the specified signal (default: SIGTERM) to the container's init process",
  usage: '[command options] <container-id> [signal]',
  args: [1, 2],
  flags: [
    {
      name: 'all',
      aliases: ['a'],
      kind: 'bool',
      ociOnly: true,
      description: 'send the signal to all processes',
    },
  ],
  async run({ oci, flags, args, signal, name }) {
    await oci.kill(name(), signalOf(args[1] ?? 'SIGTERM'), { all: flags.bool('all') }, signal);
    return 0;
  },
};

/** Also 0, which asks whether the process lives. @throws HrunError INVALID_ARGUMENT with runc's text */
function signalOf(text: string): number {
  if (text === '0') return 0;
  try {
    return parseSignal(text);
  } catch {
    throw new HrunError('INVALID_ARGUMENT', `unknown signal "${text}"`);
  }
}
