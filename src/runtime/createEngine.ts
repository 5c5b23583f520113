import { access, constants } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../base/config.ts';
import { describeDamage } from '../base/damage.ts';
import type { Log } from '../base/log.ts';
import type { Dist, Paths } from '../base/paths.ts';
import { Semaphore } from '../base/semaphore.ts';
import { freeBytesOf } from '../image/diskFull.ts';
import { Images } from '../image/images.ts';
import { hostPlatform } from '../image/platform.ts';
import { builtInNetwork } from '../network/builtInNetwork.ts';
import { HostNetworks } from '../network/hostNetworks.ts';
import { NetworkStore } from '../network/networkStore.ts';
import type { BuildDeps } from '../pool/buildTemplate.ts';
import { Guests } from '../pool/guests.ts';
import { Pool, type PoolPolicy } from '../pool/pool.ts';
import { TemplateStore } from '../pool/templateStore.ts';
import { Templates } from '../pool/templates.ts';
import type { VmmDeps } from '../vmm/deps.ts';
import type { JailPolicy } from '../vmm/jail/policy.ts';
import { sweepVmCgroups } from '../vmm/jail/vmCgroups.ts';
import { chooseAccelerator, type ProbeDeps } from '../vmm/qemu/accelerator.ts';
import { findQemu } from '../vmm/qemu/findQemu.ts';
import { containerEngine } from './containerEngine.ts';
import { eventsOfChange, launchEvent, lifeOf, owedEvents } from './containerEvents.ts';
import { ContainerStore } from './containerStore.ts';
import type { Engine } from './engine.ts';
import { EventLog } from './eventLog.ts';
import { containerImages, imageEngine } from './imageEngine.ts';
import { LaunchStats } from './launchStats.ts';
import { LiveContainers } from './liveContainers.ts';
import { networkEngine } from './networkEngine.ts';
import { HandedOver } from './oci/handedOver.ts';
import { LiveOciContainers } from './oci/liveOci.ts';
import type { OciDeps } from './oci/ociDeps.ts';
import { ociEventsOfChange, ociLifeOf } from './oci/ociEvents.ts';
import { OciStore } from './oci/ociStore.ts';
import { ociEngine } from './oci/ociVerbs.ts';
import { ociRunDirs, recoverOci } from './oci/recoverOci.ts';
import { poolEngine } from './poolEngine.ts';
import { recoverContainers } from './recoverContainers.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';
import { StandInHost } from './standInHost.ts';
import { systemEngine } from './systemEngine.ts';
import { unpackerInVm } from './unpackVm.ts';
import { volumeEngine } from './volumes/volumeEngine.ts';
import { VolumeStore } from './volumes/volumeStore.ts';
import { removeWarmDisks, warmDisks } from './warmDisks.ts';

/** A layer that claims more when decompressed is a bomb. */
const maxLayerBytes = 64 * 1024 ** 3;
const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Debian 12 has the one, newer systems the other. */
const shareServers = ['/usr/libexec/virtiofsd', '/usr/lib/qemu/virtiofsd'];

export interface EngineOptions {
  readonly config: Config;
  readonly paths: Paths;
  readonly dist: Dist;
  readonly log: Log;
  /** PATH of the daemon. */
  readonly searchPath: string;
  /** Containers that a command of an earlier daemon was attached to. */
  readonly awaited: ReadonlySet<string>;
}

/** Opens the stores, takes over what an earlier daemon left, and answers the engine behind the verbs. */
export async function createEngine(options: EngineOptions, signal: AbortSignal): Promise<Engine> {
  const { config, paths, dist, log } = options;
  const events = await EventLog.open(paths.events, log);
  const store = await ContainerStore.open(paths.containers, (before, after) => {
    for (const event of eventsOfChange(before, after)) events.record(event);
  });
  const ociStore = await OciStore.open(join(paths.run, 'oci'), (before, after) => {
    for (const event of ociEventsOfChange(before, after)) events.record(event);
  });
  const lives = [
    ...store.list().map(lifeOf),
    ...ociStore.list().map(ociLifeOf),
    // there, whatever has become of them
    ...store.damages.map(({ name }) => ({ id: name, owes: () => [] })),
  ];
  for (const event of owedEvents(await events.kept(), lives)) events.record(event);
  const images = await Images.open({
    directory: paths.images,
    log,
    nowMs: () => Date.now(),
    freeBytes: freeBytesOf,
    containersOf: (imageId) =>
      store
        .list()
        .filter(({ config }) => [config, ...config.imageMounts].some((used) => used.imageId === imageId))
        .map(({ name }) => name),
    platform: hostPlatform(),
    builtIn: new Map([['docker.io/library/busybox:latest', dist.busyboxPath]]),
    diskBytes: config.imageDiskBytes,
    maxLayerBytes,
  });
  const defaults = {
    kernelPath: config.kernelPath ?? dist.kernelPath,
    initramfsPath: config.initramfsPath ?? dist.initramfsPath,
  };
  const qemuPath = () => findQemu(config.qemuPath, `${options.searchPath}:${systemPath}`);
  const jail: JailPolicy = {
    launcherPath: dist.launcherPath,
    treesDir: paths.jail,
    uids: config.jailUids,
    owner: paths.run,
    fileBytes: Math.max(config.storageBytes, config.imageDiskBytes),
    allowed: config.allowWeakerJail,
  };
  const vmm = async (): Promise<VmmDeps> => ({
    qemuPath: await qemuPath(),
    preloadPath: dist.preloadPath,
    jail,
    log,
  });
  const probe = async (): Promise<ProbeDeps> => ({
    ...(await vmm()),
    ...defaults,
    cachePath: join(paths.run, 'accelerator.json'),
    runDir: paths.run,
  });
  const host = {
    config,
    paths,
    log,
    defaults,
    now: () => process.hrtime.bigint(),
    vmm,
    accelerator: async (wanted: RuntimeDeps['config']['accelerator'], until: AbortSignal) =>
      wanted === 'tcg' ? wanted : await chooseAccelerator(wanted, await probe(), until),
    shareServer: () => firstExecutable(shareServers),
  };
  const builtIn = builtInNetwork(config, paths.root);
  const networkStore = await NetworkStore.open(paths.networks, builtIn);
  const networks = await HostNetworks.open(paths.fabrics, {
    owner: `hrun:${paths.root}`,
    table: config.bridge.replaceAll(/[^a-zA-Z0-9_]/g, '_'),
    log,
  });
  await removeWarmDisks(paths.cache);
  const warm = warmDisks(paths.cache, config.storageBytes);
  const build = async (): Promise<BuildDeps> => ({
    ...(await host.vmm()),
    vmsDir: paths.vms,
    limits: config,
    warmDisks: warm,
    shareHost: async (runDir, until) =>
      await StandInHost.start(runDir, await host.shareServer(), dist.launcherPath, until),
  });
  const templates = new Templates({
    store: await TemplateStore.open(join(paths.cache, 'templates')),
    build,
    now: host.now,
  });
  const pool = new Pool(poolPolicy(config), { templates, log, build });
  const guests = new Guests({ templates, pool, build });
  const imageDeps = {
    images,
    containers: store,
    events,
    insecureRegistries: config.insecureRegistries,
    forget: (imageId: string) => pool.empty({ imageId }),
  };
  const deps: RuntimeDeps = {
    ...host,
    store,
    events,
    live: new LiveContainers(({ id, timing }) => {
      const record = store.get(id);
      const launched = timing();
      // One that an earlier daemon started is not launched again.
      if (record !== undefined && launched.phases.length > 0) events.record(launchEvent(record, launched));
    }),
    guests,
    networks,
    networkStore,
    volumes: await VolumeStore.open(paths.volumes, config.storageBytes),
    launches: new LaunchStats(),
    images: containerImages({
      ...imageDeps,
      unpackerFor: (allowWeakerJail) => unpackerInVm({ ...host, guests }, allowWeakerJail),
    }),
  };
  const oci: OciDeps = {
    ...host,
    store: ociStore,
    events,
    live: new LiveOciContainers(),
    handedOver: await HandedOver.open(join(paths.run, 'handed-over.json'), log),
    pool,
    boots: new Semaphore(availableParallelism()),
  };
  const kept = [store, deps.volumes, networkStore, images.store];
  for (const { damages } of kept) {
    for (const damage of damages) log.error(damage, describeDamage(damage));
  }
  for (const lost of ociStore.lost) {
    log.error(lost, 'a container of a manager cannot be read: it is ended, and forgotten');
  }
  await recoverContainers(deps, options.awaited, ociRunDirs(oci.store.list()), signal);
  await recoverOci(oci, signal);
  await sweepVmCgroups(paths.run).catch((error: unknown) =>
    log.warn({ err: error }, 'cgroups were left behind'),
  );
  await networks.settle(signal);
  return {
    oci: ociEngine(oci),
    containers: containerEngine(deps),
    images: imageEngine(imageDeps),
    networks: networkEngine(deps),
    volumes: volumeEngine(deps),
    system: systemEngine(deps, { images, qemuPath, probe, events }),
    pool: poolEngine(deps, templates, pool),
    async close() {
      await pool[Symbol.asyncDispose]();
      templates[Symbol.dispose]();
    },
  };
}

function poolPolicy(config: Config): PoolPolicy {
  return {
    ready: config.poolReady,
    idleTimeoutMs: config.poolIdleTimeoutMs,
    refillPauseMs: config.poolRefillPauseMs,
    memoryCeilingBytes: config.poolMemoryBytes,
    minAvailablePercent: config.poolMinAvailablePercent,
  };
}

async function firstExecutable(paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}
