import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { newVmId } from '../../src/base/ids.ts';
import { silentLog } from '../../src/base/log.ts';
import { findDist } from '../../src/base/paths.ts';
import { GuestVm, personalizeGuest } from '../../src/pool/guestVm.ts';
import { templateRequest } from '../../src/pool/templateKey.ts';
import { type LoadedTemplate, TemplateStore } from '../../src/pool/templateStore.ts';
import { restoreMicroVm } from '../../src/vmm/qemu/boot.ts';
import { findQemu } from '../../src/vmm/qemu/findQemu.ts';
import type { Bench } from './bench.ts';

const limitMs = 30_000;
const dist = resolve(import.meta.dirname, '../../dist/libexec');

export interface RawRestore extends Disposable {
  /** From the spawn of QEMU to a guest that has acknowledged that it is another one, milliseconds. */
  sampleMs(): Promise<number>;
}

/** Restores the template that hrun's launches are cloned from, without a daemon, a container or a disk. */
export async function openRawRestore({ host }: Bench): Promise<RawRestore> {
  const store = await TemplateStore.open(join(host.root, 'cache/templates'));
  const [record] = await store.list();
  if (record === undefined) throw new Error('there is no template to restore');
  const loaded = await store.load(record.key, AbortSignal.timeout(limitMs));
  if (loaded === undefined) throw new Error(`the template ${record.key} is damaged`);
  const { preloadPath, launcherPath } = await findDist(dist);
  const qemuPath = await findQemu(undefined, process.env.PATH ?? '');
  const uids = { first: 2_000_000_000, count: 65_536 };
  const jail = {
    launcherPath,
    treesDir: join(host.root, 'cache/jail'),
    uids,
    fileBytes: 2 ** 36,
    owner: host.run,
    allowed: [],
  };
  const deps = { qemuPath, preloadPath, jail, log: silentLog };
  return {
    sampleMs: () => restoreOnce(loaded, join(host.directory, 'raw'), deps),
    [Symbol.dispose]: () => loaded[Symbol.dispose](),
  };
}

async function restoreOnce(
  template: LoadedTemplate,
  runDir: string,
  deps: Parameters<typeof restoreMicroVm>[3],
): Promise<number> {
  const signal = AbortSignal.timeout(limitMs);
  await mkdir(runDir);
  try {
    const started = performance.now();
    const request = templateRequest(template.record.shape, newVmId(), runDir);
    const vm = await restoreMicroVm(request, template, false, deps, signal);
    await using guest = new GuestVm(vm, { bootTimeoutMs: limitMs, agentTimeoutMs: limitMs });
    await personalizeGuest(guest, 'bench', signal);
    return performance.now() - started;
  } finally {
    await rm(runDir, { recursive: true, force: true });
  }
}
