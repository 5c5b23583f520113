import { z } from 'zod';
import type { ContainerId } from '../base/ids.ts';
import { jailSteps } from '../base/jailSteps.ts';
import { CniRecordSchema } from '../network/cni/cniNetwork.ts';
import { ContainerNetworkSchema, noNetwork } from '../network/containerNetwork.ts';
import { EndpointSchema } from '../network/endpoint.ts';
import { volumeDrivers } from './volumes/volumeDefinition.ts';

/**
 * The state file of one container: all that the next daemon needs to go on. Written before it is true in memory.
 * Version 1; a file of another version is refused, never guessed at.
 */
export const VmRecordSchema = z.object({
  id: z.string().regex(/^[0-9a-f]{32}$/),
  runDir: z.string(),
  pid: z.int().positive(),
  pidStartTicks: z.string(),
  transport: z.enum(['serial', 'vsock']),
  vsockCid: z.int().optional(),
  cgroups: z.array(z.string()).readonly().optional(),
  jail: z.object({ uid: z.int().positive().optional(), weaker: z.array(z.string()).readonly() }).optional(),
});

const TemplateScopeSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('host') }),
  z.object({ kind: z.literal('none') }),
  z.object({ kind: z.literal('tenant'), name: z.string() }),
]);

const MountOptionsSchema = z.array(z.string()).default([]);

const ContainerConfigSchema = z.object({
  /** As the user wrote it. */
  image: z.string(),
  /** Digest of the image's config: Docker's image id. */
  imageId: z.string(),
  entrypoint: z.array(z.string()),
  cmd: z.array(z.string()),
  env: z.array(z.string()),
  workingDir: z.string(),
  user: z.string(),
  hostname: z.string(),
  domainname: z.string(),
  labels: z.record(z.string(), z.string()),
  openStdin: z.boolean(),
  terminal: z.boolean(),
  /** The container is deleted once it has ended and its exit code was told. */
  autoRemove: z.boolean(),
  /** An init as pid 1, before the command. */
  init: z.boolean().default(false),
  stopSignal: z.int(),
  stopTimeoutS: z.number(),
  readonlyRootfs: z.boolean(),
  capAdd: z.array(z.string()),
  capDrop: z.array(z.string()),
  tmpfs: z.array(z.object({ destination: z.string(), options: z.array(z.string()) })),
  binds: z.array(
    z.object({
      source: z.string(),
      destination: z.string(),
      readonly: z.boolean(),
      create: z.boolean().default(true),
      options: MountOptionsSchema,
    }),
  ),
  namedVolumes: z
    .array(
      z.object({
        name: z.string(),
        destination: z.string(),
        readonly: z.boolean(),
        nocopy: z.boolean(),
        options: MountOptionsSchema,
        /** Of the volume that is made when there is none. */
        driver: z.enum(volumeDrivers),
        /** Made for this container, and removed with it on request. */
        anonymous: z.boolean(),
      }),
    )
    .default([]),
  disks: z
    .array(
      z.object({
        source: z.string(),
        destination: z.string(),
        readonly: z.boolean(),
        fs: z.enum(['ext4', 'xfs', 'erofs']).optional(),
        options: MountOptionsSchema,
      }),
    )
    .default([]),
  imageMounts: z
    .array(z.object({ image: z.string(), imageId: z.string(), destination: z.string() }))
    .default([]),
  /** Destinations of anonymous volumes that go with the container; the one at index i lives in the directory `v<i>` of the scratch disk. */
  volumes: z.array(z.string()),
  ulimits: z.array(z.object({ type: z.string(), soft: z.number(), hard: z.number() })),
  sysctls: z.record(z.string(), z.string()),
  pidsLimit: z.number().optional(),
  shmSizeBytes: z.number().optional(),
  /** Limit of the container inside the VM; undefined: what the VM has. */
  memoryLimitBytes: z.number().optional(),
  vmMemoryMiB: z.int(),
  /** May be a fraction: bandwidth inside the VM. */
  cpuLimit: z.number().optional(),
  vcpus: z.int(),
  storageBytes: z.number(),
  kernelPath: z.string(),
  initramfsPath: z.string(),
  accelerator: z.enum(['auto', 'kvm', 'tcg']),
  cold: z.boolean(),
  /** Steps of QEMU's jail that may be impossible, besides those of the configuration. */
  allowWeakerJail: z.array(z.enum(jailSteps)).optional(),
  /** Whose guests its microVM may share memory with; absent in files of before there were clones. */
  templateScope: TemplateScopeSchema.default({ kind: 'host' }),
  network: ContainerNetworkSchema.default(noNetwork),
  /** How much of its output is kept; absent: as the configuration says. */
  log: z
    .object({ maxBytes: z.int().positive().optional(), maxFiles: z.int().positive().optional() })
    .optional(),
});

const ContainerStateSchema = z.object({
  status: z.enum(['created', 'starting', 'running', 'exited']),
  startedAt: z.string().optional(),
  finishedAt: z.string().optional(),
  /** Length of the output log when this run began: the workload's own offsets begin there. */
  logBase: z.object({ stdout: z.int(), stderr: z.int() }),
  exitCode: z.int().min(0).max(255),
  oomKilled: z.boolean(),
  /** How its workload ended, while its microVM is still there: what the next daemon tells if this one dies now. */
  exit: z.object({ code: z.int().min(0).max(255), oomKilled: z.boolean() }).optional(),
  /** Why the container ended, when it was not by the exit of its workload. */
  error: z.string(),
  /** While created or starting: what a failed start, or the next daemon, makes of the container. */
  onFailedStart: z.enum(['remove', 'created', 'exited']).optional(),
  /** Where the VM's sockets are; known before the VM is, so that a VM of a dead daemon is found. */
  vmRunDir: z.string().optional(),
  vm: VmRecordSchema.optional(),
  /** How many network devices its microVM has; absent: one, or none of its own. */
  nicSlots: z.int().optional(),
  standInPid: z.int().optional(),
  accelerator: z.enum(['kvm', 'tcg']).optional(),
  /** Serial numbers of the disks that it has in the microVM of another container, from before they are plugged. */
  joined: z.object({ serials: z.array(z.string()) }).optional(),
  /** Its places in networks; leased from before they are used until the container has ended. */
  endpoints: z.array(EndpointSchema).optional(),
  /** What CNI plugins made for it, until they have undone it. */
  cni: CniRecordSchema.optional(),
});

export const ContainerRecordSchema = z.object({
  version: z.literal(1),
  id: z.string().regex(/^[0-9a-f]{64}$/),
  name: z.string(),
  createdAt: z.string(),
  config: ContainerConfigSchema,
  state: ContainerStateSchema,
});

export type ContainerConfig = Readonly<z.infer<typeof ContainerConfigSchema>>;
export type ContainerState = Readonly<z.infer<typeof ContainerStateSchema>>;
export type ContainerStatus = ContainerState['status'];
export type ContainerRecord = Readonly<Omit<z.infer<typeof ContainerRecordSchema>, 'id'>> & {
  readonly id: ContainerId;
};

export const initialState: ContainerState = {
  status: 'created',
  logBase: { stdout: 0, stderr: 0 },
  exitCode: 0,
  oomKilled: false,
  error: '',
};

const transitions: Readonly<Record<ContainerStatus, readonly ContainerStatus[]>> = {
  created: ['starting'],
  starting: ['running', 'created', 'exited'],
  running: ['exited'],
  exited: ['starting'],
};

/** Whether a container may go from one status to another. */
export function mayBecome(from: ContainerStatus, to: ContainerStatus): boolean {
  return transitions[from].includes(to);
}
