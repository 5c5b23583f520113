import { createFlags, createRequest } from './createFlags.ts';
import type { OciVerb } from './ociVerb.ts';

export const create: OciVerb = {
  name: 'create',
  summary: 'create a container',
  usage: '[command options] <container-id>',
  args: [1, 1],
  flags: createFlags,
  async run(call) {
    const stdio = { kind: 'standIn', consoleSocket: call.flags.text('console-socket') } as const;
    await call.oci.create(createRequest(call, stdio, false), call.caller, call.signal);
    return 0;
  },
};
