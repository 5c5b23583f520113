import { open, readFile } from 'node:fs/promises';
import { availableParallelism, release, totalmem } from 'node:os';
import type { Images } from '../image/images.ts';
import { closedChains } from '../network/foreignFirewall.ts';
import { listNft } from '../network/nft.ts';
import { examineJail } from '../vmm/jail/examine.ts';
import { type ProbeDeps, probeAccelerator } from '../vmm/qemu/accelerator.ts';
import { fileIdentity, qemuVersion } from '../vmm/qemu/findQemu.ts';
import { examineHost } from './doctor.ts';
import type { SystemEngine } from './engine.ts';
import type { EventLog } from './eventLog.ts';
import { readEvents } from './readEvents.ts';
import { killAllContainers } from './recoverContainers.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';
import type { VersionFacts } from './views.ts';

export interface SystemParts {
  readonly events: EventLog;
  readonly images: Images;
  /** @throws HrunError QEMU_MISSING */
  qemuPath(): Promise<string>;
  probe(): Promise<ProbeDeps>;
}

/** What the verbs about the host and the daemon mean. */
export function systemEngine(
  deps: RuntimeDeps,
  { images, qemuPath, probe, events }: SystemParts,
): SystemEngine {
  const { defaults, store, live, launches } = deps;
  const releases = new Map<string, string | undefined>();

  /** The kernel's file is large: it is searched once for each state of it. */
  async function guestKernelRelease(): Promise<string | undefined> {
    const identity = await fileIdentity(defaults.kernelPath).catch(() => '');
    if (!releases.has(identity)) releases.set(identity, await kernelRelease(defaults.kernelPath));
    return releases.get(identity);
  }

  async function versions(signal: AbortSignal): Promise<VersionFacts> {
    const qemu = await qemuPath().then(
      async (path) => ({ qemuPath: path, qemuVersion: await qemuVersion(path, signal) }),
      () => ({}),
    );
    const kernelVersion = await guestKernelRelease();
    return { ...qemu, ...(kernelVersion !== undefined && { kernelVersion }) };
  }

  const damages = () =>
    [store, deps.volumes, deps.networkStore, images.store].flatMap((kept) => [...kept.damages]);

  return {
    running: () => live.ids(),
    killAll: () => killAllContainers(deps),
    events: (request, signal) => readEvents(events, request, signal),
    versions,
    damages,
    async info(signal) {
      await images.store.ready(signal);
      const records = store.list();
      const running = records.filter(({ state }) => state.status === 'running').length;
      const accelerator = await probe()
        .then((facts) => probeAccelerator(facts, signal))
        .then(
          (verdict) => verdict.accelerator,
          () => 'unknown' as const,
        );
      return {
        containers: { total: records.length, running, stopped: records.length - running },
        images: images.store.list().length,
        accelerator,
        launches: launches.summaries(),
        hostCpus: availableParallelism(),
        hostMemoryBytes: totalmem(),
        hostKernel: release(),
        hostOs: await osName(),
        versions: await versions(signal),
        ...defaults,
      };
    },
    doctor: (caller, signal) =>
      examineHost(
        {
          ...deps.paths,
          ...defaults,
          qemu: async () => {
            const path = await qemuPath();
            return { path, version: await qemuVersion(path, signal) };
          },
          accelerator: async () => {
            const { accelerator, reason } = await probeAccelerator(await probe(), signal);
            return { accelerator, ...(reason !== undefined && { reason }) };
          },
          jail: async (until) => await examineJail(await deps.vmm(until), until),
          closedChains: async () => {
            using netns = caller.openNetns();
            return closedChains(await listNft(netns, ['ruleset']));
          },
          shareServer: deps.shareServer,
          damages,
        },
        signal,
      ),
  };
}

/** `Linux version 6.12.…` stands in the kernel's file; undefined when the file cannot be read or does not tell. */
async function kernelRelease(path: string): Promise<string | undefined> {
  try {
    await using file = await open(path, 'r');
    let carry = '';
    for await (const chunk of file.createReadStream({ encoding: 'latin1', highWaterMark: 1024 * 1024 })) {
      const text = carry + String(chunk);
      const found = /Linux version (\d+\.[\w.+-]+) \(/.exec(text)?.[1];
      if (found !== undefined) return found;
      carry = text.slice(-256);
    }
  } catch {
    // Not being able to tell a version is no failure.
  }
  return undefined;
}

async function osName(): Promise<string> {
  const text = await readFile('/etc/os-release', 'utf8').catch(() => '');
  return /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(text)?.[1] ?? 'Linux';
}
