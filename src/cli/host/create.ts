import { openCaller } from '../caller.ts';
import { exitCodes } from '../exitCodes.ts';
import type { Verb } from '../verb.ts';
import { writeCidfile } from './cidfile.ts';
import { addCreateFlags, type CreateFlags } from './createFlags.ts';
import { createRequest } from './createRequest.ts';

export const create: Verb = {
  configure: addCreateFlags,

  async run(command, context) {
    const flags = command.opts<CreateFlags>();
    const request = await createRequest(flags, command.args, context.session);
    using caller = openCaller(context, {
      quiet: flags.quiet === true,
      containerCreated: (id, signal) => writeCidfile(flags.cidfile, id, context.session.files, signal),
    });
    const engine = await context.deps.engine();
    const { id, warnings } = await engine.containers.create(request, caller, context.signal);
    for (const warning of warnings) await context.complain(`hrun: warning: ${warning}\n`);
    await context.print(`${id}\n`);
    return exitCodes.ok;
  },
};
