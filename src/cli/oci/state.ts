import type { OciVerb } from './ociVerb.ts';

export const state: OciVerb = {
  name: 'state',
  summary: 'output the state of a container',
  usage: '<container-id>',
  args: [1, 1],
  flags: [],
  async run({ oci, context, name }) {
    await context.print(`${JSON.stringify(oci.state(name()), undefined, 2)}\n`);
    return 0;
  },
};
