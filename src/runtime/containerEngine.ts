import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { abortable } from '../base/abort.ts';
import { crashPoint } from '../base/crashPoint.ts';
import { HrunError } from '../base/errors.ts';
import { type ContainerId, newContainerId } from '../base/ids.ts';
import { PhaseClock } from '../base/phases.ts';
import type { AttachIo } from './attachIo.ts';
import { type AttachPlan, attachRecord, attachSession } from './attachSession.ts';
import { mergeContainerConfig } from './containerConfig.ts';
import { containerEvent } from './containerEvents.ts';
import { inventName } from './containerName.ts';
import { checkConnections } from './containerNetworking.ts';
import { type ContainerRecord, initialState } from './containerRecord.ts';
import { copyIn, copyOut, statPath } from './copyFiles.ts';
import type { AttachOptions, Caller, ContainerEngine, Created, Ended, StopOptions } from './engine.ts';
import { execProcess } from './execProcess.ts';
import { requireKernel } from './kernelFile.ts';
import { initProcessId, openContainerLog } from './launchContainer.ts';
import type { LiveContainer } from './liveContainers.ts';
import { readLogs } from './readLogs.ts';
import { removeContainer } from './removeContainer.ts';
import { resumeAttachment } from './resumeAttachment.ts';
import type { CreateRequest } from './runRequest.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';
import { checkInside, configInside, hostOfNetwork, requestInside } from './sharedNetwork.ts';
import { startContainer } from './startContainer.ts';
import { killContainer, killEvent, stopContainer } from './stopContainer.ts';
import type { ContainerSummary, LogChunk } from './views.ts';
import { checkSources } from './volumes/checkSources.ts';
import { makeVolumes } from './volumes/makeVolumes.ts';

/** As far as a Date goes, milliseconds. */
const maxDateMs = 8.64e15;

/** What the container verbs mean. */
export function containerEngine(deps: RuntimeDeps): ContainerEngine {
  const { store, live, events } = deps;

  const tell = (record: ContainerRecord, action: string) => events.record(containerEvent(record, action));

  function toldOfDetaching(record: ContainerRecord, ended: Ended): Ended {
    if (ended.kind === 'detached') tell(record, 'detach');
    return ended;
  }

  function liveOf(record: ContainerRecord): LiveContainer {
    const container = live.get(record.id);
    if (container === undefined) throw notRunning(record);
    return container;
  }

  async function create(
    request: CreateRequest,
    caller: Caller,
    onFailedStart: 'remove' | undefined,
    signal: AbortSignal,
  ): Promise<ContainerRecord> {
    if (request.name !== undefined) store.refuseTakenName(request.name);
    if (request.kernelPath !== undefined) await requireKernel(request.kernelPath);
    const image = await deps.images.resolve(request, caller, signal);
    const wishes = await checkSources(request, caller.files, signal);
    const mountedIds = await mountedImages(request, caller, signal);
    const id = newContainerId();
    const { sharedWith } = request.network;
    const host = sharedWith === undefined ? undefined : hostOfNetwork(sharedWith, deps);
    const own = mergeContainerConfig(
      id,
      { ...(host === undefined ? request : requestInside(request, host)), ...wishes },
      { ...image, mountedIds },
      { ...deps.config, ...deps.defaults },
    );
    const record: ContainerRecord = {
      version: 1,
      id,
      name: request.name ?? inventName((name) => store.isNameTaken(name)),
      createdAt: new Date().toISOString(),
      config: host === undefined ? own : configInside(host, own, request),
      state: { ...initialState, ...(onFailedStart && { onFailedStart }) },
    };
    checkConnections(record.config.network, deps);
    if (host !== undefined) checkInside(record.config, deps);
    signal.throwIfAborted();
    await store.add(record);
    await crashPoint('create.recorded');
    try {
      // after the record, which keeps them from being removed
      await makeVolumes(record, request, deps.volumes, signal);
    } catch (error) {
      await removeContainer(id, deps, { withVolumes: true });
      throw error;
    }
    return record;
  }

  async function mountedImages(
    request: CreateRequest,
    caller: Caller,
    signal: AbortSignal,
  ): Promise<string[]> {
    const ids: string[] = [];
    for (const { image } of request.imageMounts) {
      ids.push((await deps.images.resolve({ ...request, image }, caller, signal)).id);
    }
    return ids;
  }

  async function start(
    record: ContainerRecord,
    caller: Caller,
    io: AttachIo | undefined,
    phases: PhaseClock,
    beforeStart: () => Promise<void>,
    signal: AbortSignal,
  ): Promise<LiveContainer> {
    return await startContainer(
      record.id,
      deps,
      {
        files: caller.files,
        openNetns: () => caller.openNetns(),
        progress: caller.progress,
        terminalSize: io?.terminalSize,
        phases,
        beforeStart,
      },
      signal,
    );
  }

  async function startAndAttach(
    record: ContainerRecord,
    caller: Caller,
    plan: AttachPlan,
    io: AttachIo,
    phases: PhaseClock,
    signal: AbortSignal,
  ): Promise<Ended> {
    tell(record, 'attach');
    const beforeStart = () => io.makeResumable(attachRecord(record, plan, io, 0n));
    const container = await start(record, caller, io, phases, beforeStart, signal);
    return toldOfDetaching(record, await attachSession(container, record, plan, io, 0n, signal));
  }

  async function stop(container: string, options: StopOptions, signal: AbortSignal): Promise<void> {
    const record = store.find(container);
    const running = live.get(record.id);
    if (running === undefined) return;
    await stopContainer(running, record, options, deps, signal);
    tell(record, 'stop');
  }

  return {
    async create(request, caller, signal): Promise<Created> {
      const record = await create(request, caller, undefined, signal);
      await caller.containerCreated(record.id, signal);
      return { id: record.id, warnings: [] };
    },

    async run(request, caller, io, signal) {
      const phases = new PhaseClock(deps.now, caller.startedNs);
      phases.end('cli');
      const record = await create(request.create, caller, 'remove', signal);
      const plan: AttachPlan = {
        from: { stdout: 0n, stderr: 0n },
        ownsOutput: true,
        stdin: true,
        signalProxy: request.signalProxy,
        timing: request.timing,
      };
      try {
        await caller.containerCreated(record.id, signal);
        if (!request.detach) return await startAndAttach(record, caller, plan, io, phases, signal);
        const container = await start(record, caller, undefined, phases, async () => {}, signal);
        const timing = request.timing ? { timing: container.timing() } : {};
        return { kind: 'detached', containerId: record.id, ...timing };
      } catch (error) {
        // A failed start has removed it already; before the start nobody else knows it.
        if (store.get(record.id)?.state.status === 'created') {
          await removeContainer(record.id, deps, { withVolumes: true });
        }
        throw error;
      }
    },

    async start(container, caller, signal) {
      const record = store.find(container);
      if (live.get(record.id) !== undefined) return;
      await start(record, caller, undefined, new PhaseClock(deps.now), async () => {}, signal);
    },

    async startAttached(container, options, caller, io, signal) {
      const record = store.find(container);
      if (live.get(record.id) !== undefined) {
        throw new HrunError('WRONG_STATE', `container ${record.name} is running already`, {
          hint: 'use attach',
        });
      }
      const from = await earlierOutput(record);
      const plan = {
        from,
        ownsOutput: true,
        stdin: options.stdin,
        signalProxy: options.signalProxy,
        timing: false,
      };
      return await startAndAttach(record, caller, plan, io, new PhaseClock(deps.now), signal);
    },

    async attach(container, options: AttachOptions, io, signal) {
      const record = store.find(container);
      const running = liveOf(record);
      const stdinBase = running.init.inputAccepted;
      const plan = { from: { ...running.log.lengths }, ownsOutput: false, ...options, timing: false };
      await io.makeResumable(attachRecord(record, plan, io, stdinBase));
      tell(record, 'attach');
      if (io.terminalSize !== undefined) running.init.resize(io.terminalSize);
      return toldOfDetaching(record, await attachSession(running, record, plan, io, stdinBase, signal));
    },

    async exec(request, io, signal) {
      const record = store.find(request.container);
      return await execProcess(liveOf(record), record, request, deps, io, signal);
    },

    resume: (record, received, io, signal) => resumeAttachment(record, received, io, deps, signal),

    async list({ withSize }) {
      return await Promise.all(store.list().map((record) => summaryOf(record, withSize)));
    },

    async inspect(container) {
      const record = store.find(container);
      return {
        record,
        logPath: join(store.directoryOf(record.id), 'output.log'),
        scratchDiskPath: join(store.directoryOf(record.id), 'scratch.raw'),
        vmPid: live.get(record.id)?.guest.vm.record.pid ?? 0,
        pid: record.state.standInPid ?? 0,
        volumeSources: new Map(
          record.config.namedVolumes.flatMap(({ name }) => {
            const volume = deps.volumes.get(name);
            const { driver = 'dir' } = volume ?? {};
            return volume === undefined ? [] : [[name, { path: deps.volumes.contentOf(volume), driver }]];
          }),
        ),
      };
    },

    async top(container, signal) {
      const record = store.find(container);
      const { client } = await liveOf(record).guest.agent(signal);
      const processes = await client.listProcesses(record.id, signal);
      tell(record, 'top');
      return processes.map((process) => ({
        pid: process.pid,
        ppid: process.ppid,
        uid: process.uid,
        user: process.user,
        // the guest says it, and beyond this there is no date
        startMs: Math.min(Number(process.startRealtimeMs), maxDateMs),
        cpuTimeMs: Number(process.cpuTimeMs),
        cpuPercent: process.cpuPercent,
        rssBytes: Number(process.rssBytes),
        tty: process.tty,
        args: process.args,
      }));
    },

    async *logs(request, signal): AsyncGenerator<LogChunk> {
      const record = store.find(request.container);
      const running = live.get(record.id);
      if (running !== undefined) return yield* readLogs(running.log, request, signal);
      await using log = await openContainerLog(record, deps);
      yield* readLogs(log, { ...request, follow: false }, signal);
    },

    async wait(container, until, signal) {
      const record = store.find(container);
      let { exitCode } = record.state;
      if (until === 'removed') {
        for (let now = store.get(record.id); now !== undefined; now = store.get(record.id)) {
          exitCode = now.state.exitCode;
          await store.nextChange(signal);
        }
        return exitCode;
      }
      while (until === 'next-exit' && live.get(record.id) === undefined) await store.nextChange(signal);
      const running = live.get(record.id);
      return running === undefined ? exitCode : (await abortable(running.ended, signal)).exitCode;
    },

    stop,

    async restart(container, options, caller, signal) {
      await stop(container, options, signal);
      await this.start(container, caller, signal);
      tell(store.find(container), 'restart');
    },

    async kill(container, signalNumber, signal) {
      const record = store.find(container);
      const { client } = await liveOf(record).guest.agent(signal);
      const request = { containerId: record.id, processId: initProcessId, signal: signalNumber, all: false };
      await client.signal(request, signal);
      events.record(killEvent(record, signalNumber));
    },

    async remove(container, { force, volumes }, signal) {
      const damaged = force ? store.findDamaged(container) : undefined;
      if (damaged !== undefined) {
        await store.removeDamaged(damaged);
        return events.record({ type: 'container', action: 'destroy', id: damaged, attributes: {} });
      }
      const record = store.find(container);
      const running = live.get(record.id);
      if (running !== undefined) {
        if (!force) {
          throw new HrunError('WRONG_STATE', `container ${record.name} is running`, {
            hint: 'stop it first, or remove it with --force',
          });
        }
        await killContainer(running, record, deps, signal);
      }
      if (store.get(record.id) !== undefined)
        await removeContainer(record.id, deps, { withVolumes: volumes });
    },

    rename: (container, newName) => store.rename(store.find(container).id, newName),

    statPath: (container, path, followLink, caller, signal) =>
      statPath(store.find(container), path, followLink, caller, deps, signal),
    async copyOut(request, caller, signal) {
      const record = store.find(request.container);
      const copied = await copyOut(record, request, caller, deps, signal);
      tell(record, 'archive-path');
      return copied;
    },
    async copyIn(request, caller, signal) {
      const record = store.find(request.container);
      const copied = await copyIn(record, request, caller, deps, signal);
      tell(record, 'extract-to-dir');
      return copied;
    },
  };

  /** How far the log is already: an attached start shows only what comes from now on. */
  async function earlierOutput(record: ContainerRecord): Promise<{ stdout: bigint; stderr: bigint }> {
    await using log = await openContainerLog(record, deps);
    return { ...log.lengths };
  }

  async function summaryOf(record: ContainerRecord, withSize: boolean): Promise<ContainerSummary> {
    const { id, name, config, state, createdAt } = record;
    return {
      id,
      name,
      image: config.image,
      imageId: config.imageId,
      command: [...config.entrypoint, ...config.cmd],
      createdAtMs: Date.parse(createdAt),
      status: state.status,
      ...(state.startedAt !== undefined && { startedAtMs: Date.parse(state.startedAt) }),
      ...(state.finishedAt !== undefined && { finishedAtMs: Date.parse(state.finishedAt) }),
      exitCode: state.exitCode,
      labels: config.labels,
      volumes: config.volumes.length + config.namedVolumes.length,
      networks: config.network.connections.map(({ network }) => network),
      ports: (state.endpoints ?? []).flatMap(({ ports }) => ports),
      mounts: [
        ...[...config.binds, ...config.disks].map(({ source }) => source),
        ...config.namedVolumes.map(({ name }) => name),
        ...config.volumes,
      ],
      ...(withSize && { sizeBytes: await writtenBytes(id) }),
    };
  }

  async function writtenBytes(id: ContainerId): Promise<number> {
    const scratch = join(store.directoryOf(id), 'scratch.raw');
    return await stat(scratch).then(
      ({ blocks }) => blocks * 512,
      () => 0,
    );
  }
}

function notRunning(record: ContainerRecord): HrunError {
  return new HrunError('WRONG_STATE', `container ${record.name} is not running`);
}
