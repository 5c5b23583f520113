import type { OciRecord } from './ociRecord.ts';

/** The state of a container as the runtime-spec has it (runtime.md, "State"); what hooks read from stdin. */
export interface SpecState {
  readonly ociVersion: string;
  readonly id: string;
  readonly status: string;
  /** Left out where there is none, or it is not known yet. */
  readonly pid?: number;
  readonly bundle: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** What `hrun state` prints: runc's fields, and those that only a microVM has. */
export interface RuncState extends SpecState {
  readonly pid: number;
  readonly rootfs: string;
  readonly created: string;
  readonly owner: string;
  readonly vm: {
    readonly pid: number;
    readonly accelerator: string;
    readonly launch: string;
    readonly memoryMiB: number;
    readonly vcpus: number;
    readonly sandbox: string;
  };
}

/** As callers see it: `paused` is a status of its own, `creating` is never seen. */
export function statusOf({ status, paused }: OciRecord): string {
  return paused && status !== 'stopped' ? 'paused' : status;
}

export function specState(record: OciRecord, status: string, pid: number | undefined): SpecState {
  const { ociVersion, name, bundle, annotations } = record;
  return {
    ociVersion,
    id: name,
    status,
    ...(pid !== undefined && { pid }),
    bundle,
    ...(Object.keys(annotations).length > 0 && { annotations }),
  };
}

export function runcState(record: OciRecord, sandboxName: string): RuncState {
  const pid = record.status === 'stopped' ? 0 : (record.standIn?.pid ?? 0);
  const { ociVersion, id, status, bundle, annotations } = specState(record, statusOf(record), pid);
  return {
    ociVersion,
    id,
    pid,
    status,
    bundle,
    rootfs: record.rootfs,
    created: record.createdAt,
    ...(annotations && { annotations }),
    owner: record.ownerUid === 0 ? 'root' : String(record.ownerUid),
    vm: {
      pid: record.status === 'stopped' ? 0 : (record.vm?.pid ?? 0),
      accelerator: record.accelerator ?? '',
      launch: record.launch ?? '',
      memoryMiB: record.vmMemoryMiB,
      vcpus: record.vcpus,
      sandbox: sandboxName,
    },
  };
}
