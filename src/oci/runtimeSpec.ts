import { z } from 'zod';
import { idMappingsSchema, linuxSpecSchema } from './linuxSpec.ts';
import { processSpecSchema } from './processSpec.ts';
import {
  argumentText,
  dictionary,
  flag,
  list,
  optional,
  parseSpecJson,
  pathText,
  shortText,
  specInvalid,
  text,
  uint32,
  uint64,
} from './specJson.ts';

/** Versions of the runtime-spec that are understood; a later minor version only adds fields. */
export const ociVersionMin = '1.0.0';
export const ociVersionMax = '1.3.0';

const hooks = list(
  z.object({
    path: pathText,
    args: list(argumentText),
    env: list(argumentText),
    timeout: optional(z.int().max(0x7fff_ffff)),
  }),
);

/** runtime-spec config.md, "POSIX-platform Hooks". */
const hooksSchema = z.object({
  prestart: hooks,
  createRuntime: hooks,
  createContainer: hooks,
  startContainer: hooks,
  poststart: hooks,
  poststop: hooks,
});

/** runtime-spec config-vm.md. */
const vmSchema = z.object({
  hypervisor: optional(z.object({ path: text(), parameters: list(argumentText) })),
  kernel: optional(z.object({ path: text(), parameters: list(argumentText), initrd: text() })),
  image: optional(z.object({ path: text(), format: text(shortText) })),
  hwConfig: optional(
    z.object({
      deviceTree: text(),
      vcpus: optional(uint32),
      memory: optional(uint64),
      dtdevs: list(pathText),
      iomems: list(
        z.object({ firstGFN: optional(uint64), firstMFN: optional(uint64), nrMFNs: optional(uint64) }),
      ),
      irqs: list(uint32),
    }),
  ),
});

const otherPlatform = optional(z.looseObject({}));

/** runtime-spec config.md. */
export const runtimeSpecSchema = z.object({
  ociVersion: z.string().max(64),
  root: optional(z.object({ path: pathText, readonly: flag() })),
  mounts: list(
    z.object({
      destination: pathText,
      type: text(shortText),
      source: text(),
      options: list(pathText),
      uidMappings: idMappingsSchema,
      gidMappings: idMappingsSchema,
    }),
  ),
  process: optional(processSpecSchema),
  hostname: text(shortText),
  domainname: text(shortText),
  hooks: optional(hooksSchema),
  annotations: dictionary(argumentText),
  linux: optional(linuxSpecSchema),
  vm: optional(vmSchema),
  solaris: otherPlatform,
  windows: otherPlatform,
  zos: otherPlatform,
  freebsd: otherPlatform,
});

export type RuntimeSpec = z.output<typeof runtimeSpecSchema>;
export type MountSpec = RuntimeSpec['mounts'][number];
export type HooksSpec = z.output<typeof hooksSchema>;
export type HookSpec = HooksSpec['poststop'][number];
export type VmSpec = z.output<typeof vmSchema>;

/** A bundle's config.json. @throws HrunError SPEC_INVALID that names the JSON path */
export function parseRuntimeSpec(bytes: Uint8Array, subject = 'config.json'): RuntimeSpec {
  const spec = parseSpecJson(runtimeSpecSchema, bytes, subject);
  // As runc: a version that cannot be one is refused, one that is merely later is not (SemVer 2.0.0, without build).
  if (!/^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$/.test(spec.ociVersion)) {
    throw specInvalid(subject, `is invalid: ociVersion: ${JSON.stringify(spec.ociVersion)} is no version`);
  }
  return spec;
}
