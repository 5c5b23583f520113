import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { withCancel } from '../../base/abort.ts';
import { crashPoint } from '../../base/crashPoint.ts';
import { HrunError, messageOf } from '../../base/errors.ts';
import { newContainerId, newVmId } from '../../base/ids.ts';
import { PhaseClock } from '../../base/phases.ts';
import { cgroupMounts, removeCgroups } from '../../sys/cgroups.ts';
import { GuestProcess } from '../guestProcess.ts';
import { initProcessId } from '../launchContainer.ts';
import { defaultShareCache, shareServerArguments } from '../shareServer.ts';
import { type Bundle, readBundle } from './bundle.ts';
import { planShares, type SharePlan } from './bundlePlan.ts';
import { type BundleVm, bundleVm } from './bundleVm.ts';
import { guestContainer } from './guestContainer.ts';
import { runHooks } from './hooks.ts';
import { cgroupPath, cgroupsOfProcess } from './hostCgroups.ts';
import { applyHostLimits } from './hostLimits.ts';
import type { LiveOci } from './liveOci.ts';
import { type NamespacePlan, placeNamespaces } from './namespacePlan.ts';
import type { OciDeps } from './ociDeps.ts';
import type { OciCaller, OciCreateRequest } from './ociEngine.ts';
import { ociLaunchEvent } from './ociEvents.ts';
import type { HostCgroup, OciRecord } from './ociRecord.ts';
import { writePidFile } from './pidFile.ts';
import { claimReady, type ReadySandbox } from './readySandbox.ts';
import { refuseRootless } from './rootless.ts';
import { specState } from './runcState.ts';
import { openSandbox, serverOf } from './sandboxOci.ts';
import { StandInLink } from './standInLink.ts';
import { superviseOci } from './superviseOci.ts';

const undoLimitMs = 10_000;
/** From the request for a stand-in to its listening, at most. */
const birthLimitMs = 2_000;
const birthPauseMs = 50;
/** /proc/self/mountinfo of a host with very many mounts. */
const maxMountinfoBytes = 4 * 1024 * 1024;

/**
 * Makes a container of a bundle: stand-in, microVM, and in it the process, prepared up to its execve. Whatever fails, and
 * whoever goes away, leaves nothing behind.
 * @throws HrunError with runc's text where it has one
 */
export async function createOci(
  request: OciCreateRequest,
  caller: OciCaller,
  deps: OciDeps,
  signal: AbortSignal,
): Promise<LiveOci> {
  const { store } = deps;
  const phases = new PhaseClock(deps.now);
  await refuseRootless(caller.uid);
  using _name = store.reserve(request.name.scope, request.name.id);
  const bundle = await readBundle(request.bundle, caller.files, signal);
  checkConsole(request, bundle);
  const namespaces = await placeNamespaces(bundle.plan, caller.files, deps, signal);
  const vm = await bundleVm(bundle, namespaces.sandbox, deps, signal);
  phases.end('bundle');
  using _launching = deps.pool.launching();
  await using undo = new AsyncDisposableStack();
  // One that waits has a share server of the usual kind.
  const isUsual = vm.owner === undefined && vm.shareCache === defaultShareCache;
  const ready = isUsual ? await claimReady(vm.shape, caller.files, phases, deps, signal) : undefined;
  undo.use(ready);
  const record = recordOf(request, caller, bundle, vm, ready, deps);
  await store.add(record, bundle.configJson);
  undo.defer(() => store.remove(record.id));
  await crashPoint('oci.create.recorded');
  await mkdir(record.runDir, { mode: 0o700 });
  undo.defer(() => rm(record.runDir, { recursive: true, force: true }));

  const plan = planShares(bundle.spec, bundle.rootfs, bundle.directory, namePrefix(record));
  const standIn = undo.use(
    await openStandIn(request, bundle, plan, namespaces, vm, ready, record, caller, deps, signal),
  );
  const { link, pid, cgroups } = standIn;
  const { hooks, linux } = bundle.spec;
  await store.update(record.id, {
    cgroups: [...cgroups],
    standIn: {
      pid,
      hostPid: link.process.pid,
      startTicks: link.process.startTicks,
      controlPath: controlPath(record),
    },
  });
  if (linux?.resources !== undefined) {
    await applyHostLimits(linux.resources, cgroups, record.vmMemoryMiB, record.accelerator ?? 'kvm');
  }

  phases.end('stand-in');
  await crashPoint('oci.create.placed');
  const sandbox = await withCancel(signal, async (until, cancel) => {
    const opening = openSandbox(
      record,
      namespaces.sandbox,
      ready,
      vm.shape,
      sharePath(record),
      cgroups,
      phases,
      deps,
      until,
    );
    opening.catch(() => {});
    undo.defer(async () => {
      const opened = await opening.catch(() => undefined);
      if (opened?.owner === record.id) await opened.end();
    });
    try {
      const state = specState(record, 'creating', pid);
      const run = { state, bundle: bundle.directory };
      await runHooks({ ...run, name: 'prestart', hooks: hooks?.prestart ?? [] }, caller.files, until);
      await runHooks(
        { ...run, name: 'createRuntime', hooks: hooks?.createRuntime ?? [] },
        caller.files,
        until,
      );
      await runHooks(
        { ...run, name: 'createContainer', hooks: hooks?.createContainer ?? [], namespacesOf: pid },
        caller.files,
        until,
      );
    } catch (error) {
      cancel(error);
      throw error;
    }
    return await opening;
  });
  // What they took beyond the microVM, which gets ready meanwhile.
  phases.end('hooks');
  await crashPoint('oci.create.booted');
  const { client } = await sandbox.guest.agent(signal);
  const size = request.stdio.kind === 'attached' ? request.stdio.io.terminalSize : link.terminalSize;
  try {
    await client.createContainer(guestContainer(record, bundle, plan, namespaces, size), signal);
  } catch (error) {
    signal.throwIfAborted();
    throw startFailure(error);
  }
  phases.end('container');
  undo.defer(async () => {
    // The microVM of another container goes on.
    if (sandbox.owner !== record.id)
      await client.deleteContainer(record.id, AbortSignal.timeout(undoLimitMs));
  });
  await crashPoint('oci.create.made');
  if (request.pidFile !== undefined) await writePidFile(request.pidFile, pid, caller.files, signal);
  const created = await store.update(record.id, {
    status: 'created',
    ...(sandbox.owner === record.id && { vm: sandbox.guest.vm.record }),
  });
  await crashPoint('oci.create.told');
  // who asked may be gone: nobody would know of it
  signal.throwIfAborted();
  deps.events.record(ociLaunchEvent(created, phases.timing()));
  const init = new GuestProcess(sandbox.guest, record.id, initProcessId);
  undo.move();
  return superviseOci(created, sandbox, link, init, deps);
}

function checkConsole({ stdio, foreground }: OciCreateRequest, { spec }: Bundle): void {
  const { terminal } = spec.process;
  const socket = stdio.kind === 'standIn' ? stdio.consoleSocket : undefined;
  if (terminal && !foreground && socket === undefined && stdio.kind === 'standIn') {
    throw new HrunError(
      'INVALID_ARGUMENT',
      'cannot allocate tty if runc will detach without setting console socket',
    );
  }
  if (socket !== undefined && (!terminal || foreground)) {
    throw new HrunError(
      'INVALID_ARGUMENT',
      'cannot use console socket if runc will not detach or allocate tty',
    );
  }
}

function recordOf(
  { name }: OciCreateRequest,
  { uid }: OciCaller,
  { spec, directory, rootfs }: Bundle,
  { owner, shape }: BundleVm,
  ready: ReadySandbox | undefined,
  { paths }: OciDeps,
): OciRecord {
  const id = newContainerId();
  const runDir = join(paths.vms, newVmId());
  return {
    version: 1,
    id,
    name: name.id,
    scope: name.scope,
    bundle: directory,
    rootfs,
    ociVersion: spec.ociVersion,
    annotations: spec.annotations,
    createdAt: new Date().toISOString(),
    ownerUid: uid,
    status: 'creating',
    paused: false,
    exitCode: 0,
    oomKilled: false,
    error: '',
    sandbox: owner?.id ?? id,
    runDir,
    vmRunDir: owner?.vmRunDir ?? ready?.runDir ?? runDir,
    ...(ready && { shareHost: { hostPid: ready.host.process.pid } }),
    accelerator: shape.accelerator,
    launch: owner?.launch ?? (ready ? 'pooled' : 'cold'),
    vmMemoryMiB: shape.memoryMiB,
    vcpus: shape.vcpus,
    cgroups: [],
    execs: [],
    relaysNames: false,
    interfaces: [],
  };
}

interface OpenStandIn extends AsyncDisposable {
  readonly link: StandInLink;
  readonly pid: number;
  readonly cgroups: readonly HostCgroup[];
}

/** Starts the process that the manager will know, in its namespaces and cgroup, with its stdio. */
async function openStandIn(
  { stdio }: OciCreateRequest,
  { spec }: Bundle,
  plan: SharePlan,
  namespaces: NamespacePlan,
  { shareCache }: BundleVm,
  ready: ReadySandbox | undefined,
  record: OciRecord,
  { files }: OciCaller,
  deps: OciDeps,
  signal: AbortSignal,
): Promise<OpenStandIn> {
  await using undo = new AsyncDisposableStack();
  const { sandbox } = namespaces;
  const servedBy = ready?.host.process.pid ?? (sandbox?.standIn && serverOf(sandbox, deps));
  const server =
    servedBy === undefined ? shareServerArguments(await deps.shareServer(), shareCache) : undefined;
  const mountinfo = await files.readFile('/proc/self/mountinfo', maxMountinfoBytes, signal);
  const within = cgroupPath(spec.linux?.cgroupsPath ?? '', record.name);
  const socketPath = sharePath(record);
  // Also when the answer never comes: a stand-in that nobody knows would wait for its daemon.
  let answered = false;
  undo.defer(() => endStandIn(controlPath(record), answered, within));
  const { pid } = await files.standIn(
    {
      controlPath: controlPath(record),
      ...(server && { server, socketPath }),
      ...(servedBy !== undefined && { servedBy }),
      shares: plan.shares,
      root: plan.root,
      mountPoints: plan.mountPoints,
      title: spec.process.args,
      namespaces: namespaces.standIn,
      cgroups: cgroupMounts(mountinfo.toString('utf8')).map(({ directory }) => ({
        mount: directory,
        path: within,
      })),
      ...(stdio.kind === 'attached'
        ? { stdio: 'none' as const }
        : stdio.consoleSocket === undefined
          ? { stdio: 'inherit' as const }
          : { stdio: 'terminal' as const, consoleSocket: stdio.consoleSocket }),
    },
    signal,
  );
  answered = true;
  const link = await StandInLink.dial(controlPath(record), signal);
  undo.move();
  const cgroups = await cgroupsOfProcess(link.process.pid, within);
  return {
    link,
    pid,
    cgroups,
    async [Symbol.asyncDispose]() {
      const limit = AbortSignal.timeout(undoLimitMs);
      await link.exit(1, limit).catch(() => link.kill());
      await removeCgroups(cgroups, limit).catch(() => {});
    },
  };
}

/** Ends a stand-in that may not even listen yet, because its front door was killed while it began. */
async function endStandIn(path: string, answered: boolean, cgroup: string): Promise<void> {
  const limit = AbortSignal.timeout(undoLimitMs);
  const patience = AbortSignal.timeout(answered ? 0 : birthLimitMs);
  let link = await StandInLink.dial(path, limit).catch(() => undefined);
  while (link === undefined && !patience.aborted) {
    await sleep(birthPauseMs);
    link = await StandInLink.dial(path, limit).catch(() => undefined);
  }
  await link?.exit(1, limit).catch(() => link.kill());
  const mounts = cgroupMounts(await readFile('/proc/self/mountinfo', 'utf8'));
  const cgroups = mounts.map(({ directory, controllers }) => ({
    controllers: [...controllers],
    directory: join(directory, cgroup),
  }));
  await removeCgroups(cgroups, limit).catch(() => {});
}

/** What runc says before what its init said. */
function startFailure(error: unknown): HrunError {
  const known = error instanceof HrunError ? error : undefined;
  return new HrunError(
    known?.code ?? 'AGENT_REFUSED',
    `unable to start container process: ${messageOf(error)}`,
    { cause: error, ...(known?.hint !== undefined && { hint: known.hint }) },
  );
}

/** Shares of several containers lie side by side in one tree. */
function namePrefix({ id, sandbox }: OciRecord): string {
  return id === sandbox ? '' : `${id.slice(0, 12)}-`;
}

function controlPath({ runDir }: OciRecord): string {
  return join(runDir, 'stand-in.sock');
}

function sharePath({ runDir }: OciRecord): string {
  return join(runDir, 'share.sock');
}
