/**
 * What the agent is asked to make of a config.json: plain objects in the shape of the contract's messages
 * (guest-agent/proto), which lies in a room above this one.
 */

export interface GuestIdMapping {
  readonly containerId: number;
  readonly hostId: number;
  readonly size: number;
}

export interface GuestMount {
  readonly destination: string;
  readonly options: string[];
  readonly source:
    | { readonly case: 'kernel'; readonly value: { readonly type: string; readonly source: string } }
    | { readonly case: 'share'; readonly value: { readonly tag: string; readonly path: string } };
}

export interface GuestDevice {
  readonly path: string;
  readonly type: string;
  readonly major: number;
  readonly minor: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface GuestProcess {
  readonly args: string[];
  readonly env: string[];
  readonly cwd: string;
  readonly createCwd: boolean;
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: number[];
  readonly umask?: number;
  readonly terminal: boolean;
  readonly terminalSize?: { readonly rows: number; readonly columns: number };
  readonly stdinOpen: boolean;
  readonly capabilities: {
    readonly bounding: string[];
    readonly effective: string[];
    readonly inheritable: string[];
    readonly permitted: string[];
    readonly ambient: string[];
  };
  readonly noNewPrivileges: boolean;
  readonly rlimits: { readonly type: string; readonly soft: bigint; readonly hard: bigint }[];
  readonly oomScoreAdj?: number;
  readonly scheduler?: {
    readonly policy: string;
    readonly nice: number;
    readonly priority: number;
    readonly flags: string[];
    readonly runtimeNs: bigint;
    readonly deadlineNs: bigint;
    readonly periodNs: bigint;
  };
  readonly ioPriority?: { readonly class: string; readonly priority: number };
  readonly execCpuAffinity?: { readonly initial: string; readonly final: string };
}

export interface GuestDeviceRule {
  readonly allow: boolean;
  readonly type: string;
  readonly major?: number;
  readonly minor?: number;
  readonly access: string;
}

/** All ones stand for "max". */
export interface GuestResources {
  readonly memoryMaxBytes?: bigint;
  readonly memoryLowBytes?: bigint;
  readonly memorySwapMaxBytes?: bigint;
  readonly memoryCheckBeforeUpdate?: boolean;
  readonly cpuQuotaUs?: bigint;
  readonly cpuPeriodUs?: bigint;
  readonly cpuBurstUs?: bigint;
  readonly cpuWeight?: bigint;
  readonly cpuIdle?: boolean;
  readonly pidsMax?: bigint;
  readonly ioWeight?: number;
  readonly hugepageLimits?: { readonly pageSize: string; readonly limitBytes: bigint }[];
  readonly unified?: Record<string, string>;
  readonly deviceRules?: { readonly rules: GuestDeviceRule[] };
}

export interface GuestSeccomp {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly architectures: string[];
  readonly flags: string[];
  readonly syscalls: {
    readonly names: string[];
    readonly action: string;
    readonly errnoRet?: number;
    readonly args: {
      readonly index: number;
      readonly value: bigint;
      readonly valueTwo: bigint;
      readonly op: string;
    }[];
  }[];
}

export interface GuestHook {
  readonly path: string;
  readonly args: string[];
  readonly env: string[];
  readonly timeoutS: number;
}

export interface GuestContainer {
  readonly containerId: string;
  readonly rootfs: {
    readonly case: 'share';
    readonly value: { readonly tag: string; readonly path: string };
  };
  readonly readonlyRootfs: boolean;
  readonly hostname: string;
  readonly domainname: string;
  readonly mounts: GuestMount[];
  readonly devices: GuestDevice[];
  readonly maskedPaths: string[];
  readonly readonlyPaths: string[];
  readonly sysctl: Record<string, string>;
  readonly resources: GuestResources;
  readonly process: GuestProcess;
  readonly namespaces: { readonly namespaces: { readonly type: string; readonly containerId: string }[] };
  readonly uidMappings: GuestIdMapping[];
  readonly gidMappings: GuestIdMapping[];
  readonly timeOffsets: { readonly clock: string; readonly seconds: bigint; readonly nanoseconds: number }[];
  readonly rootfsPropagation: string;
  readonly seccomp?: GuestSeccomp;
  readonly personality?: { readonly domain: string; readonly flags: string[] };
  readonly startContainerHooks: GuestHook[];
  readonly hookState: string;
}
