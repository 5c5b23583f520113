import { z } from 'zod';
import { type Digest, parseDigest } from '../base/ids.ts';
import { check, parseJson } from './imageManifest.ts';

/** An image config may be this long. */
export const maxConfigBytes = 8 * 1024 * 1024;
// MAX_ARG_STRLEN of Linux: execve refuses a longer string.
const maxArgumentBytes = 131_072;
const maxEntries = 4096;

const noNul = (text: string): boolean => !text.includes('\0');
const short = z.string().max(4096).refine(noNul, 'contains a NUL');
const argument = z.string().max(maxArgumentBytes).refine(noNul, 'contains a NUL');
const argumentList = z.array(argument).max(maxEntries);
/** Go writes an absent list as null; images of before 2015 have a plain string where a list belongs. */
const command = z
  .union([argumentList, argument.transform((text) => [text])])
  .nullish()
  .transform((list) => list ?? undefined);
const setOfNames = z
  .record(short, z.unknown())
  .refine((set) => Object.keys(set).length <= maxEntries, 'has too many entries')
  .nullish()
  .transform((set) => Object.keys(set ?? {}));

const processSchema = z.object({
  User: short.nullish().transform((user) => user ?? ''),
  Env: argumentList.nullish().transform((list) => list ?? []),
  Entrypoint: command,
  Cmd: command,
  WorkingDir: short.nullish().transform((directory) => directory ?? ''),
  Volumes: setOfNames,
  ExposedPorts: setOfNames,
  StopSignal: z
    .string()
    .max(32)
    .nullish()
    .transform((signal) => signal ?? ''),
  Labels: z
    .record(short, z.string().max(65_536))
    .refine((labels) => Object.keys(labels).length <= maxEntries, 'has too many entries')
    .nullish()
    .transform((labels) => labels ?? {}),
});

const date = z
  .string()
  .max(64)
  .refine((value) => !Number.isNaN(Date.parse(value)), 'is not a date')
  .nullish()
  .transform((value) => value ?? undefined);
const optionalText = z
  .string()
  .max(65_536)
  .nullish()
  .transform((value) => value ?? undefined);

const configSchema = z.object({
  architecture: z.string().max(255),
  os: z.string().max(255),
  variant: optionalText,
  created: date,
  author: optionalText,
  config: processSchema.nullish().transform((config) => config ?? processSchema.parse({})),
  rootfs: z.object({
    type: z.literal('layers'),
    diff_ids: z
      .array(
        z
          .string()
          .regex(/^sha256:[0-9a-f]{64}$/, 'is not a sha256 digest')
          .transform(parseDigest),
      )
      .max(1024)
      .nullish()
      .transform((list) => list ?? []),
  }),
  history: z
    .array(
      z.object({
        created: date,
        created_by: optionalText,
        author: optionalText,
        comment: optionalText,
        empty_layer: z
          .boolean()
          .nullish()
          .transform((empty) => empty ?? false),
      }),
    )
    .max(maxEntries)
    .nullish()
    .transform((list) => list ?? []),
});

/** How a container of the image starts unless told otherwise (image-spec, config.md, "config"). */
interface ImageProcess {
  /** `user`, `uid`, `user:group`, …; empty for root. */
  readonly user: string;
  /** `KEY=value`, in the image's order. */
  readonly env: readonly string[];
  readonly entrypoint: readonly string[] | undefined;
  readonly cmd: readonly string[] | undefined;
  /** Empty for `/`. */
  readonly workingDirectory: string;
  readonly volumes: readonly string[];
  /** `80/tcp`, … */
  readonly exposedPorts: readonly string[];
  /** Empty for SIGTERM. */
  readonly stopSignal: string;
  readonly labels: Readonly<Record<string, string>>;
}

interface HistoryEntry {
  readonly created: string | undefined;
  readonly createdBy: string | undefined;
  readonly author: string | undefined;
  readonly comment: string | undefined;
  readonly emptyLayer: boolean;
}

export interface ImageConfig {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string | undefined;
  /** RFC 3339, as the image says it. */
  readonly created: string | undefined;
  readonly author: string | undefined;
  readonly process: ImageProcess;
  /** Digests of the uncompressed layers, lowest first. */
  readonly diffIds: readonly Digest[];
  readonly history: readonly HistoryEntry[];
}

/** @param subject names the config in errors @throws HrunError IMAGE_INVALID */
export function parseImageConfig(bytes: Uint8Array, subject: string): ImageConfig {
  const { config, rootfs, history, ...rest } = check(configSchema, parseJson(bytes, subject), subject);
  return {
    os: rest.os,
    architecture: rest.architecture,
    variant: rest.variant,
    created: rest.created,
    author: rest.author,
    process: {
      user: config.User,
      env: config.Env,
      entrypoint: config.Entrypoint,
      cmd: config.Cmd,
      workingDirectory: config.WorkingDir,
      volumes: config.Volumes,
      exposedPorts: config.ExposedPorts,
      stopSignal: config.StopSignal,
      labels: config.Labels,
    },
    diffIds: rootfs.diff_ids,
    history: history.map((entry) => ({
      created: entry.created,
      createdBy: entry.created_by,
      author: entry.author,
      comment: entry.comment,
      emptyLayer: entry.empty_layer,
    })),
  };
}
