import { isHrunError } from '../../base/errors.ts';
import type { VersionFacts } from '../../runtime/views.ts';
import type { Context } from '../deps.ts';
import { exitCodes } from '../exitCodes.ts';
import { lineJson } from '../render/json.ts';
import { compileTemplate } from '../render/template.ts';
import type { Verb } from '../verb.ts';

interface VersionFlags {
  readonly format?: string;
}

export const version: Verb = {
  configure(command) {
    command.option('-f, --format <format>', 'json, or a Go template');
  },

  async run(command, context) {
    const { format } = command.opts<VersionFlags>();
    const template = format === undefined || format === 'json' ? undefined : compileTemplate(format);
    const facts = await collect(context);
    if (template !== undefined) await context.print(`${template(facts)}\n`);
    else if (format === 'json') await context.print(`${lineJson(facts)}\n`);
    else await context.print(describe(facts));
    return exitCodes.ok;
  },
};

interface Versions {
  readonly Client: { readonly Version: string };
  readonly Server: {
    readonly Version: string;
    readonly Pid: number;
    readonly Node: string;
    readonly Qemu: string;
    readonly Kernel: string;
    readonly Os: string;
    readonly Arch: string;
  };
}

/** Front door and daemon are of one build: the daemon was started from beside the front door. */
async function collect({ deps, signal }: Context): Promise<Versions> {
  const { daemon } = deps;
  const { qemuVersion = '', kernelVersion = '' } = await versionsOfEngine(deps, signal);
  const arch = process.arch === 'x64' ? 'amd64' : process.arch;
  return {
    Client: { Version: daemon.version },
    Server: {
      Version: daemon.version,
      Pid: daemon.pid,
      Node: process.versions.node,
      Qemu: qemuVersion,
      Kernel: kernelVersion,
      Os: process.platform,
      Arch: arch,
    },
  };
}

/** A version is told even by a daemon that cannot run anything. */
async function versionsOfEngine(deps: Context['deps'], signal: AbortSignal): Promise<VersionFacts> {
  try {
    return await (await deps.engine()).system.versions(signal);
  } catch (error) {
    if (!isHrunError(error) || signal.aborted) throw error;
    return {};
  }
}

function describe({ Client, Server }: Versions): string {
  const lines = [
    'Client:',
    ` Version:       ${Client.Version}`,
    '',
    'Server:',
    ` Version:       ${Server.Version}`,
    ` Daemon pid:    ${Server.Pid}`,
    ` Node.js:       ${Server.Node}`,
    ` QEMU:          ${Server.Qemu || 'not found'}`,
    ` Guest kernel:  ${Server.Kernel || 'unknown'}`,
    ` OS/Arch:       ${Server.Os}/${Server.Arch}`,
  ];
  return `${lines.join('\n')}\n`;
}
