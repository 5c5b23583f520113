import { readFile } from 'node:fs/promises';
import { cpus, loadavg, release, totalmem } from 'node:os';
import type { HrunHost } from '../helpers/hrunHost.ts';
import { versionOf } from './processes.ts';

/** What numbers can only be read with: the machine, and what was measured on it. */
export async function hostFacts(host: HrunHost): Promise<Record<string, unknown>> {
  const info: Record<string, unknown> = JSON.parse(await host.ok(['info', '--format', 'json']));
  const osRelease = await readFile('/etc/os-release', 'utf8').catch(() => '');
  return {
    cpus: cpus().map(({ model }) => model),
    memoryBytes: totalmem(),
    kernel: release(),
    os: /^PRETTY_NAME="?([^"\n]*)/m.exec(osRelease)?.[1] ?? 'unknown',
    loadBefore: loadavg(),
    accelerator: info.Accelerator,
    guestKernel: info.GuestKernelVersion,
    hrun: info.ServerVersion,
    commit: await versionOf(['git', '-C', import.meta.dirname, 'describe', '--always', '--dirty']),
    qemu: info.QemuVersion,
    node: process.version,
    runc: await versionOf(['runc', '--version']),
    crun: await versionOf(['crun', '--version']),
    podman: await versionOf(['podman', '--version']),
  };
}
