import { openAttachIo } from '../attachTerminal.ts';
import { createFlags, createRequest } from './createFlags.ts';
import type { OciCall, OciVerb } from './ociVerb.ts';
import { bundleHasTerminal } from './terminalOf.ts';
import { withPrefix } from './withPrefix.ts';

const sigkill = 9;

export const run: OciVerb = {
  name: 'run',
  summary: 'create and run a container',
  usage: '[command options] <container-id>',
  args: [1, 1],
  flags: [
    ...createFlags,
    { name: 'detach', aliases: ['d'], kind: 'bool', description: "detach from the container's process" },
    { name: 'keep', kind: 'bool', ociOnly: true, description: 'do not delete the container after it exits' },
    {
      name: 'no-subreaper',
      kind: 'bool',
      ociOnly: true,
      description: 'ignored: the stand-in has its own reaper',
    },
  ],
  async run(call) {
    const { flags, oci, caller, signal, context } = call;
    const name = call.name();
    const detach = flags.bool('detach');
    const consoleSocket = flags.text('console-socket');
    const bundle = flags.text('bundle') ?? context.session.cwd;
    const attached = !detach && (await bundleHasTerminal(bundle, caller.files, signal));
    const io = attached ? openAttachIo(context.session, { stdin: true, detachKeys: [] }) : undefined;
    const stdio =
      io === undefined ? ({ kind: 'standIn', consoleSocket } as const) : ({ kind: 'attached', io } as const);
    const failed = (error: unknown) => {
      throw withPrefix('runc run failed: ', error);
    };
    await oci.create(createRequest(call, stdio, !detach), caller, signal).catch(failed);
    try {
      await oci.start(name, caller, signal);
    } catch (error) {
      await oci.delete(name, { force: true }, caller, signal).catch(() => {});
      failed(error);
    }
    if (detach) return 0;
    const code = await waitForwarding(call);
    if (!flags.bool('keep')) await oci.delete(name, { force: true }, caller, signal);
    return code;
  },
};

/** Signals that reach the command go to the container's process, as runc forwards them. */
async function waitForwarding({ oci, context, signal, name }: OciCall): Promise<number> {
  const container = name();
  using _signals = context.session.onSignal((signalNumber) => {
    void oci
      .kill(container, signalNumber, { all: false }, AbortSignal.timeout(sigkill * 1000))
      .catch(() => {});
  });
  return await oci.wait(container, signal);
}
