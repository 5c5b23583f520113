import { z } from 'zod';
import {
  argumentText,
  flag,
  int32,
  list,
  optional,
  parseSpecJson,
  pathText,
  shortText,
  text,
  uint32,
  uint64,
} from './specJson.ts';

const capabilityNames = list(shortText);

/** runtime-spec config.md, "Process". */
export const processSpecSchema = z.object({
  terminal: flag(),
  consoleSize: optional(z.object({ height: uint32, width: uint32 })),
  user: z
    .object({
      uid: uint32.nullish().transform((uid) => uid ?? 0),
      gid: uint32.nullish().transform((gid) => gid ?? 0),
      umask: optional(uint32),
      additionalGids: list(uint32),
      username: text(),
    })
    .nullish()
    .transform((user) => user ?? { uid: 0, gid: 0, umask: undefined, additionalGids: [], username: '' }),
  args: list(argumentText),
  commandLine: text(argumentText),
  env: list(argumentText),
  cwd: text(),
  capabilities: optional(
    z.object({
      bounding: capabilityNames,
      effective: capabilityNames,
      inheritable: capabilityNames,
      permitted: capabilityNames,
      ambient: capabilityNames,
    }),
  ),
  rlimits: list(z.object({ type: shortText, soft: uint64, hard: uint64 })),
  noNewPrivileges: flag(),
  apparmorProfile: text(),
  oomScoreAdj: optional(int32),
  scheduler: optional(
    z.object({
      policy: shortText,
      nice: int32.nullish().transform((nice) => nice ?? 0),
      priority: int32.nullish().transform((priority) => priority ?? 0),
      flags: list(shortText),
      runtime: uint64.nullish().transform((runtime) => runtime ?? 0n),
      deadline: uint64.nullish().transform((deadline) => deadline ?? 0n),
      period: uint64.nullish().transform((period) => period ?? 0n),
    }),
  ),
  selinuxLabel: text(),
  ioPriority: optional(z.object({ class: shortText, priority: int32.nullish().transform((p) => p ?? 0) })),
  execCPUAffinity: optional(z.object({ initial: text(pathText), final: text(pathText) })),
});

export type ProcessSpec = z.output<typeof processSpecSchema>;

/** What `exec --process` is given. @throws HrunError SPEC_INVALID */
export function parseProcessSpec(bytes: Uint8Array, subject = 'process.json'): ProcessSpec {
  return parseSpecJson(processSpecSchema, bytes, subject);
}
