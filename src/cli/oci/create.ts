import { createFlags, createRequest } from './createFlags.ts';
import type { OciVerb } from './ociVerb.ts';
import { withPrefix } from './withPrefix.ts';

export const create: OciVerb = {
  name: 'create',
  summary: 'create a container',
  usage: '[command options] <container-id>',
  args: [1, 1],
  flags: createFlags,
  async run(call) {
    const stdio = { kind: 'standIn', consoleSocket: call.flags.text('console-socket') } as const;
    const request = createRequest(call, stdio, false);
    await call.oci.create(request, call.caller, call.signal).catch((error: unknown) => {
      throw withPrefix('runc create failed: ', error);
    });
    return 0;
  },
};
