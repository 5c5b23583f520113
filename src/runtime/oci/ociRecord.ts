import { z } from 'zod';
import type { ContainerId } from '../../base/ids.ts';
import { VmRecordSchema } from '../containerRecord.ts';

/** The stand-in of a container or of an exec. */
const StandInSchema = z.object({
  /** As the caller's pid namespace has it: what the pid-file says. */
  pid: z.int().positive(),
  /** As the daemon's has it, and since when. */
  hostPid: z.int().positive(),
  startTicks: z.string(),
  controlPath: z.string(),
});

const ExecSchema = z.object({
  processId: z.string(),
  standIn: StandInSchema,
});

/**
 * The state file of a container that a manager handed over as a bundle. Beside it lies the config.json as it was at
 * `create`. Version 1; a file of another version is refused, never guessed at.
 */
export const OciRecordSchema = z.object({
  version: z.literal(1),
  id: z.string().regex(/^[0-9a-f]{64}$/),
  /** The manager's own. */
  name: z.string(),
  /** `--root` as device and inode, so that equal strings of two managers do not collide. */
  scope: z.string(),
  bundle: z.string(),
  rootfs: z.string(),
  ociVersion: z.string(),
  annotations: z.record(z.string(), z.string()),
  createdAt: z.string(),
  ownerUid: z.int(),
  status: z.enum(['creating', 'created', 'running', 'stopped']),
  paused: z.boolean(),
  exitCode: z.int().min(0).max(255),
  oomKilled: z.boolean(),
  /** How its process ended, while its microVM is still there: what the next daemon tells if this one dies now. */
  exit: z.object({ code: z.int().min(0).max(255), oomKilled: z.boolean() }).optional(),
  /** Why it stopped, when it was not by the exit of its process. */
  error: z.string(),
  /** Whose microVM it lives in: its own id, or that of the container whose namespaces it joined. */
  sandbox: z.string().regex(/^[0-9a-f]{64}$/),
  /** Directory of the microVM, and of the sockets of this container's stand-in. */
  vmRunDir: z.string(),
  runDir: z.string(),
  standIn: StandInSchema.optional(),
  /** Whose share server its microVM has, if it is not that of its own stand-in. */
  shareHost: z.object({ hostPid: z.int().positive() }).optional(),
  vm: VmRecordSchema.optional(),
  accelerator: z.enum(['kvm', 'tcg']).optional(),
  launch: z.enum(['cold', 'pooled']).optional(),
  vmMemoryMiB: z.int(),
  vcpus: z.int(),
  /** Directories of the host's cgroups, as the daemon sees them. */
  cgroups: z.array(z.object({ controllers: z.array(z.string()), directory: z.string() })),
  execs: z.array(ExecSchema),
  /** Its resolv.conf names the server that dockerd runs in its network namespace. */
  relaysNames: z.boolean(),
  /** Of the network namespace, that the microVM has taken over. */
  interfaces: z.array(z.string()),
});

export type OciRecord = Readonly<Omit<z.infer<typeof OciRecordSchema>, 'id'>> & { readonly id: ContainerId };
export type OciStatus = OciRecord['status'];
export type StandInRecord = z.infer<typeof StandInSchema>;
export type HostCgroup = OciRecord['cgroups'][number];

const transitions: Readonly<Record<OciStatus, readonly OciStatus[]>> = {
  creating: ['created', 'stopped'],
  created: ['running', 'stopped'],
  running: ['stopped'],
  stopped: [],
};

/** Whether a container may go from one status to another. */
export function mayBecome(from: OciStatus, to: OciStatus): boolean {
  return transitions[from].includes(to);
}
