import { abortable } from '../../base/abort.ts';
import { crashPoint } from '../../base/crashPoint.ts';
import { HrunError } from '../../base/errors.ts';
import { parseContainerId } from '../../base/ids.ts';
import { parseRuntimeSpec } from '../../oci/runtimeSpec.ts';
import { readBundle } from './bundle.ts';
import { createOci } from './createOci.ts';
import { deleteOci } from './deleteOci.ts';
import { execOci } from './execOci.ts';
import { runHooks } from './hooks.ts';
import { killOci } from './killOci.ts';
import type { LiveOci } from './liveOci.ts';
import { asksDockerResolver, relayNames } from './nameRelay.ts';
import { isHostNetwork } from './namespacePlan.ts';
import { connectNetwork } from './networkOci.ts';
import type { OciDeps } from './ociDeps.ts';
import type { OciCaller, OciEngine, OciName } from './ociEngine.ts';
import { ociEvent } from './ociEvents.ts';
import type { OciRecord } from './ociRecord.ts';
import { doesNotExist, notPaused, notRunning, notRunningById } from './runcErrors.ts';
import { runcState, specState } from './runcState.ts';
import { readStats } from './statsOci.ts';
import { updateOci } from './updateOci.ts';

const killedCode = 137;

/** What runc's verbs mean. */
export function ociEngine(deps: OciDeps): OciEngine {
  const { store } = deps;

  function find({ scope, id }: OciName): OciRecord {
    const record = store.find(scope, id);
    if (record.status === 'creating') throw doesNotExist();
    return record;
  }

  function liveOf(record: OciRecord): LiveOci {
    const live = deps.live.get(record.id);
    if (live === undefined || record.status === 'stopped') throw notRunning();
    return live;
  }

  function stateOf(record: OciRecord) {
    return runcState(record, store.get(parseContainerId(record.sandbox))?.name ?? '');
  }

  async function setPaused(record: OciRecord, paused: boolean, signal: AbortSignal): Promise<void> {
    const { client } = await liveOf(record).sandbox.guest.agent(signal);
    if (paused) await client.pauseContainer(record.id, signal);
    else await client.resumeContainer(record.id, signal);
    await store.update(record.id, { paused });
  }

  async function start(record: OciRecord, caller: OciCaller, signal: AbortSignal): Promise<void> {
    if (record.paused) throw new HrunError('WRONG_STATE', 'cannot start a container in the paused state');
    if (record.status === 'running') {
      throw new HrunError('WRONG_STATE', 'cannot start an already running container');
    }
    if (record.status === 'stopped') {
      throw new HrunError('WRONG_STATE', 'cannot start a container that has stopped');
    }
    const live = liveOf(record);
    const spec = parseRuntimeSpec(await store.config(record.id));
    await connectNetwork(record, live, deps, signal);
    const relaysNames =
      record.sandbox === record.id && (await asksDockerResolver(spec, record.bundle, caller.files, signal));
    if (relaysNames) {
      await store.update(record.id, { relaysNames });
      relayNames(live.sandbox.guest, live.link.process.pid, deps.log, live.over);
    }
    const { client } = await live.sandbox.guest.agent(signal);
    await client.startContainer(record.id, signal);
    await crashPoint('oci.start.started');
    const running = await store.update(record.id, (now) =>
      now.status === 'created' ? { status: 'running' } : {},
    );
    const hooks = spec.hooks?.poststart ?? [];
    const state = specState(running, 'running', running.standIn?.pid);
    try {
      await runHooks({ name: 'poststart', hooks, state, bundle: running.bundle }, caller.files, signal);
    } catch (error) {
      live.tearDown(killedCode, 'a poststart hook failed');
      throw error;
    }
  }

  return {
    async create(request, caller, signal) {
      await createOci(request, caller, deps, signal);
    },
    start: (name, caller, signal) => start(find(name), caller, signal),
    async wait(name, signal) {
      const record = find(name);
      const live = deps.live.get(record.id);
      return live === undefined ? record.exitCode : await abortable(live.ended, signal);
    },
    state: (name) => stateOf(find(name)),
    list: (scope) =>
      store
        .list()
        .filter((record) => record.scope === scope && record.status !== 'creating')
        .map(stateOf),
    async kill(name, signalNumber, { all }, signal) {
      const record = find(name);
      // 0 only asks.
      if (signalNumber !== 0 && record.status !== 'stopped') {
        deps.events.record(ociEvent(record, 'kill', { signal: String(signalNumber) }));
      }
      await killOci(record, deps.live.get(record.id), signalNumber, all, signal);
    },
    delete: (name, { force }, caller, signal) => deleteOci(find(name), force, caller, deps, signal),
    async exec(request, caller, signal) {
      const record = find(request.name);
      if (record.status === 'stopped') {
        throw new HrunError('WRONG_STATE', 'cannot exec in a stopped container');
      }
      if (record.paused && !request.ignorePaused) {
        throw new HrunError(
          'WRONG_STATE',
          'cannot exec in a paused container (use --ignore-paused to override)',
        );
      }
      return await execOci(request, liveOf(record), record, caller, deps, signal);
    },
    processes(name) {
      const record = find(name);
      if (record.status === 'stopped' || record.standIn === undefined) return [];
      return [record.standIn.pid, ...record.execs.map(({ standIn }) => standIn.pid)];
    },
    async pause(name, signal) {
      const record = find(name);
      if (record.paused) throw notRunning();
      await setPaused(record, true, signal);
    },
    async resume(name, signal) {
      const record = find(name);
      if (!record.paused) throw notPaused();
      await setPaused(record, false, signal);
    },
    async update(name, resources, signal) {
      const record = find(name);
      await updateOci(record, liveOf(record), resources, signal);
      deps.events.record(ociEvent(record, 'update'));
    },
    async stats(name, signal) {
      const record = find(name);
      if (record.status === 'stopped') throw notRunningById(name.id);
      return await readStats(record, liveOf(record), signal);
    },
    has: (name) =>
      store.lookUp(name.scope, name.id) !== undefined || deps.handedOver.runtimeOf(name) !== undefined,
    async wantsHostNetwork(path, { files }, signal) {
      const { plan } = await readBundle(path, files, signal);
      return await isHostNetwork(plan.network, files, signal);
    },
    handedOver: deps.handedOver,
  };
}
