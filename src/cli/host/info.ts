import { formatMemory } from '../../base/units.ts';
import type { LaunchSummary } from '../../runtime/launchStats.ts';
import { exitCodes } from '../exitCodes.ts';
import { lineJson } from '../render/json.ts';
import { compileTemplate } from '../render/template.ts';
import type { Verb } from '../verb.ts';

interface InfoFlags {
  readonly format?: string;
}

export const info: Verb = {
  configure(command) {
    command.option('-f, --format <format>', 'json, or a Go template');
  },

  async run(command, context) {
    const { format } = command.opts<InfoFlags>();
    const template = format === undefined || format === 'json' ? undefined : compileTemplate(format);
    const { deps, signal } = context;
    const [system, config] = [await (await deps.engine()).system.info(signal), await deps.config()];
    const { containers, versions } = system;
    const facts = {
      Containers: containers.total,
      ContainersRunning: containers.running,
      ContainersStopped: containers.stopped,
      Images: system.images,
      ServerVersion: deps.daemon.version,
      DaemonPid: deps.daemon.pid,
      Accelerator: system.accelerator,
      Launches: system.launches,
      QemuVersion: versions.qemuVersion ?? 'not found',
      QemuPath: versions.qemuPath ?? '',
      KernelVersion: system.hostKernel,
      GuestKernelVersion: versions.kernelVersion ?? 'unknown',
      GuestKernel: system.kernelPath,
      GuestInitramfs: system.initramfsPath,
      OperatingSystem: system.hostOs,
      NCPU: system.hostCpus,
      MemTotal: system.hostMemoryBytes,
      HrunRoot: deps.paths.root,
      HrunRun: deps.paths.run,
      ConfigFile: deps.paths.configFile,
      Config: config,
    };
    if (template !== undefined) await context.print(`${template(facts)}\n`);
    else if (format === 'json') await context.print(`${lineJson(facts)}\n`);
    else await context.print(describe(facts));
    return exitCodes.ok;
  },
};

type Facts = Readonly<Record<string, unknown>> & { readonly Launches: readonly LaunchSummary[] };

function describe({ Config: config, MemTotal, Launches, ...facts }: Facts): string {
  const lines = Object.entries(facts).map(([name, value]) => ` ${spaced(name)}: ${value}`);
  const settings = Object.entries(config ?? {}).map(
    ([name, value]) =>
      `  ${name}: ${Array.isArray(value) ? value.join(', ') || 'none' : (value ?? 'built in')}`,
  );
  const memory = ` Total memory: ${formatMemory(Number(MemTotal))}`;
  const launches = Launches.map(describeLaunches);
  return `${[...lines, memory, ...launches, ' Configuration in force:', ...settings].join('\n')}\n`;
}

function describeLaunches({ kind, count, phases }: LaunchSummary): string {
  const each = phases.map(({ name, p50Ms, p99Ms }) => `${name} ${p50Ms.toFixed(1)}/${p99Ms.toFixed(1)}`);
  return ` Launches ${kind}: ${count}, p50/p99 in ms: ${each.join(', ')}`;
}

/** `DaemonPid` → `Daemon pid`. */
function spaced(name: string): string {
  if (name === 'NCPU') return 'CPUs';
  return name.replaceAll(/(?<=[a-z])[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}
