import type { OciVerb } from './ociVerb.ts';

export const start: OciVerb = {
  name: 'start',
  summary: 'execute the user defined process in a created container',
  usage: '<container-id>',
  args: [1, 1],
  flags: [],
  async run({ oci, caller, signal, name }) {
    await oci.start(name(), caller, signal);
    return 0;
  },
};
