import { openCaller } from '../caller.ts';
import { exitCodes } from '../exitCodes.ts';
import { checked } from '../flags.ts';
import { parsePlatform } from '../parse/limits.ts';
import type { Verb } from '../verb.ts';

interface PullFlags {
  readonly insecure?: true;
  readonly platform?: ReturnType<typeof parsePlatform>;
  readonly quiet?: true;
}

export const pull: Verb = {
  configure(command) {
    command.option('--insecure', 'Accept plain http, or any certificate, from the registry');
    command.option('--platform <platform>', 'Choose one of a multi-platform image', checked(parsePlatform));
    command.option('-q, --quiet', 'Print the name only');
  },

  async run(command, context) {
    const { insecure = false, platform, quiet = false } = command.opts<PullFlags>();
    const [reference = ''] = command.args;
    using caller = openCaller(context, { quiet });
    const engine = await context.deps.engine();
    const request = { reference, insecure, ...(platform !== undefined && { platform }) };
    const pulled = await engine.images.pull(request, caller, context.signal);
    caller.progress.stop();
    if (!quiet) {
      const state = pulled.upToDate ? 'Image is up to date for' : 'Downloaded newer image for';
      await context.print(`Digest: ${pulled.digest}\nStatus: ${state} ${reference}\n`);
    }
    await context.print(`${pulled.reference}\n`);
    return exitCodes.ok;
  },
};
