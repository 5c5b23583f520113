import { z } from 'zod';
import { resourcesSpecSchema } from './resourcesSpec.ts';
import {
  dictionary,
  flag,
  int64,
  list,
  optional,
  pathText,
  shortText,
  text,
  uint32,
  uint64,
} from './specJson.ts';

const idMappings = list(z.object({ containerID: uint32, hostID: uint32, size: uint32 }));

/** runtime-spec config-linux.md, "Seccomp". */
const seccompSchema = z.object({
  defaultAction: shortText,
  defaultErrnoRet: optional(uint32),
  architectures: list(shortText),
  flags: list(shortText),
  listenerPath: text(),
  listenerMetadata: text(),
  syscalls: list(
    z.object({
      names: list(shortText),
      action: shortText,
      errnoRet: optional(uint32),
      args: list(
        z.object({
          index: uint32,
          value: uint64,
          valueTwo: uint64.nullish().transform((value) => value ?? 0n),
          op: shortText,
        }),
      ),
    }),
  ),
});

/** runtime-spec config-linux.md. */
export const linuxSpecSchema = z.object({
  uidMappings: idMappings,
  gidMappings: idMappings,
  sysctl: dictionary(pathText),
  resources: optional(resourcesSpecSchema),
  cgroupsPath: text(),
  namespaces: list(z.object({ type: shortText, path: text() })),
  devices: list(
    z.object({
      path: pathText,
      type: shortText,
      major: int64.nullish().transform((major) => major ?? 0n),
      minor: int64.nullish().transform((minor) => minor ?? 0n),
      fileMode: optional(uint32),
      uid: optional(uint32),
      gid: optional(uint32),
    }),
  ),
  netDevices: dictionary(z.object({ name: text(shortText) })),
  seccomp: optional(seccompSchema),
  rootfsPropagation: text(shortText),
  maskedPaths: list(pathText),
  readonlyPaths: list(pathText),
  mountLabel: text(),
  intelRdt: optional(
    z.object({
      closID: text(),
      schemata: list(pathText),
      l3CacheSchema: text(),
      memBwSchema: text(),
      enableMonitoring: flag(),
      enableCMT: flag(),
      enableMBM: flag(),
    }),
  ),
  memoryPolicy: optional(z.object({ mode: text(shortText), nodes: text(), flags: list(shortText) })),
  personality: optional(z.object({ domain: shortText, flags: list(shortText) })),
  timeOffsets: dictionary(
    z.object({
      secs: int64.nullish().transform((secs) => secs ?? 0n),
      nanosecs: uint32.nullish().transform((nanosecs) => nanosecs ?? 0),
    }),
  ),
});

export type LinuxSpec = z.output<typeof linuxSpecSchema>;
export type SeccompSpec = z.output<typeof seccompSchema>;
export type IdMappingSpec = LinuxSpec['uidMappings'][number];

export const idMappingsSchema = idMappings;
