import type { ResourcesSpec } from '../../oci/resourcesSpec.ts';
import type { AttachIo } from '../attachIo.ts';
import type { CallerFiles } from '../callerFiles.ts';
import type { RuncState } from './runcState.ts';

/**
 * What runc's verbs ask for. Containers are named by the manager's own id within a scope (`--root`). Failures carry
 * runc's texts, which managers match.
 */
export interface OciEngine {
  create(request: OciCreateRequest, caller: OciCaller, signal: AbortSignal): Promise<void>;
  start(name: OciName, caller: OciCaller, signal: AbortSignal): Promise<void>;
  /** Waits until the container has stopped; answers its exit code. */
  wait(name: OciName, signal: AbortSignal): Promise<number>;
  state(name: OciName): RuncState;
  list(scope: string): readonly RuncState[];
  kill(
    name: OciName,
    signalNumber: number,
    options: { readonly all: boolean },
    signal: AbortSignal,
  ): Promise<void>;
  delete(
    name: OciName,
    options: { readonly force: boolean },
    caller: OciCaller,
    signal: AbortSignal,
  ): Promise<void>;
  /** Answers the exit code of a process that is waited for, 0 of a detached one. */
  exec(request: OciExecRequest, caller: OciCaller, signal: AbortSignal): Promise<number>;
  /** Pids in the caller's pid namespace: the stand-ins of the container and of its execs. */
  processes(name: OciName): readonly number[];
  pause(name: OciName, signal: AbortSignal): Promise<void>;
  resume(name: OciName, signal: AbortSignal): Promise<void>;
  update(name: OciName, resources: ResourcesSpec, signal: AbortSignal): Promise<void>;
  stats(name: OciName, signal: AbortSignal): Promise<OciStats>;
  /** Whether a container of this name exists in the scope. */
  has(name: OciName): boolean;
  /** Whether a bundle asks for the network of its caller. @throws HrunError as `create`, for a bundle that is none */
  wantsHostNetwork(bundle: string, caller: OciCaller, signal: AbortSignal): Promise<boolean>;
  readonly handedOver: HandedOverContainers;
}

/** Containers that another runtime was given, because hrun does not give the host's network to any. */
export interface HandedOverContainers {
  runtimeOf(name: OciName): string | undefined;
  /**
   * `underWay`: the process that makes it, or was to, still runs: its runtime need not know it yet. It is looked at before
   * this answers, so that what is under way no more and unknown then is gone.
   */
  inScope(
    scope: string,
  ): Promise<readonly { readonly id: string; readonly runtime: string; readonly underWay: boolean }[]>;
  /** `makerPid`: of the process that becomes the runtime. */
  add(name: OciName, runtime: string, makerPid: number): Promise<void>;
  forget(name: OciName): Promise<void>;
}

export interface OciName {
  readonly scope: string;
  readonly id: string;
}

export interface OciCaller {
  readonly files: CallerFiles;
  readonly uid: number;
}

export type OciStdio =
  /** The stand-in inherits the caller's descriptors, or owns a pty whose master goes to the console socket. */
  | { readonly kind: 'standIn'; readonly consoleSocket: string | undefined }
  /** The command's own terminal, which the command stays at. */
  | { readonly kind: 'attached'; readonly io: AttachIo };

export interface OciCreateRequest {
  readonly name: OciName;
  readonly bundle: string;
  readonly pidFile: string | undefined;
  readonly stdio: OciStdio;
  /** Neither detached nor attached: the caller waits for the end. */
  readonly foreground: boolean;
  readonly noNewKeyring: boolean;
}

export interface OciExecRequest {
  readonly name: OciName;
  /** What `--process` names; read through the caller. */
  readonly processFile: string | undefined;
  /** Without `--process`: what differs from the container's own process. */
  readonly flags: OciExecFlags;
  readonly detach: boolean;
  readonly pidFile: string | undefined;
  readonly stdio: OciStdio;
  readonly ignorePaused: boolean;
}

export interface OciExecFlags {
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly env: readonly string[];
  readonly terminal: boolean;
  readonly uid?: number;
  readonly gid?: number;
  readonly additionalGids: readonly number[];
  readonly capabilities: readonly string[];
  readonly noNewPrivileges?: boolean;
}

/** Numbers of the host's cgroup, which holds the whole microVM, and files of the guest's. */
export interface OciStats {
  readonly host: Readonly<Record<string, string>>;
  readonly guest: Readonly<Record<string, string>>;
}
