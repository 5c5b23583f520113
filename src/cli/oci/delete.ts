import { isHrunError } from '../../base/errors.ts';
import type { OciVerb } from './ociVerb.ts';

export const deleteVerb: OciVerb = {
  name: 'delete',
  summary: 'delete any resources held by the container',
  usage: '[command options] <container-id>',
  args: [1, 1],
  flags: [
    {
      name: 'force',
      aliases: ['f'],
      kind: 'bool',
      description: 'forcibly delete the container if it is still running (uses SIGKILL)',
    },
  ],
  async run({ oci, flags, caller, signal, name }) {
    const force = flags.bool('force');
    try {
      await oci.delete(name(), { force }, caller, signal);
    } catch (error) {
      // Callers clean up more than once.
      if (!(force && isHrunError(error, 'NOT_FOUND'))) throw error;
    }
    return 0;
  },
};
