import { z } from 'zod';
import {
  dictionary,
  flag,
  int64,
  list,
  optional,
  parseSpecJson,
  pathText,
  shortText,
  text,
  uint32,
  uint64,
} from './specJson.ts';

const weight = uint32.max(10_000);
const throttled = list(z.object({ major: int64, minor: int64, rate: uint64 }));

/** runtime-spec config-linux.md, "Control groups". */
export const resourcesSpecSchema = z.object({
  devices: list(
    z.object({
      allow: flag(),
      type: text(shortText),
      major: optional(int64),
      minor: optional(int64),
      access: text(shortText),
    }),
  ),
  memory: optional(
    z.object({
      limit: optional(int64),
      reservation: optional(int64),
      swap: optional(int64),
      kernel: optional(int64),
      kernelTCP: optional(int64),
      swappiness: optional(uint64),
      disableOOMKiller: flag(),
      useHierarchy: flag(),
      checkBeforeUpdate: flag(),
    }),
  ),
  cpu: optional(
    z.object({
      shares: optional(uint64),
      quota: optional(int64),
      burst: optional(uint64),
      period: optional(uint64),
      realtimeRuntime: optional(int64),
      realtimePeriod: optional(uint64),
      cpus: text(pathText),
      mems: text(pathText),
      idle: optional(int64),
    }),
  ),
  pids: optional(z.object({ limit: optional(int64) })),
  blockIO: optional(
    z.object({
      weight: optional(weight),
      leafWeight: optional(weight),
      weightDevice: list(
        z.object({ major: int64, minor: int64, weight: optional(weight), leafWeight: optional(weight) }),
      ),
      throttleReadBpsDevice: throttled,
      throttleWriteBpsDevice: throttled,
      throttleReadIOPSDevice: throttled,
      throttleWriteIOPSDevice: throttled,
    }),
  ),
  hugepageLimits: list(z.object({ pageSize: shortText, limit: uint64 })),
  network: optional(
    z.object({
      classID: optional(uint32),
      priorities: list(z.object({ name: shortText, priority: uint32 })),
    }),
  ),
  rdma: dictionary(z.object({ hcaHandles: optional(uint32), hcaObjects: optional(uint32) })),
  unified: dictionary(pathText),
});

export type ResourcesSpec = z.output<typeof resourcesSpecSchema>;

/** What `update --resources` is given. @throws HrunError SPEC_INVALID */
export function parseResourcesSpec(bytes: Uint8Array, subject = 'resources'): ResourcesSpec {
  return parseSpecJson(resourcesSpecSchema, bytes, subject);
}
