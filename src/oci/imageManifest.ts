import { z } from 'zod';
import { HrunError, messageOf } from '../base/errors.ts';
import { type Digest, parseDigest } from '../base/ids.ts';
import { printable } from '../base/text.ts';

/** A manifest or index may be this long (docker and containerd refuse longer ones too). */
export const maxManifestBytes = 4 * 1024 * 1024;
const maxLayers = 1024;
const maxIndexEntries = 4096;

export const mediaTypes = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
} as const;

const indexTypes: readonly string[] = [mediaTypes.ociIndex, mediaTypes.dockerIndex];
const manifestTypes: readonly string[] = [mediaTypes.ociManifest, mediaTypes.dockerManifest];
const configTypes: readonly string[] = [mediaTypes.ociConfig, mediaTypes.dockerConfig];
/** Layers that are file system changes; "foreign" and "nondistributable" ones are tried at the registry like others. */
const layerType =
  /^application\/vnd\.(oci\.image\.layer\.(nondistributable\.)?v1\.tar(\+gzip|\+zstd)?|docker\.image\.rootfs\.(foreign\.)?diff\.tar(\.gzip|\.zstd)?)$/;

const text = z.string().max(4096);
const annotations = z.record(text, z.string().max(65_536)).nullish();
const digest = z
  .string()
  .regex(/^sha256:[0-9a-f]{64}$/, 'is not a sha256 digest')
  .transform(parseDigest);
const descriptor = z.object({
  mediaType: z.string().max(255),
  digest,
  size: z.int().nonnegative(),
  annotations,
});
const platform = z.object({
  os: z.string().max(255),
  architecture: z.string().max(255),
  variant: z.string().max(255).nullish(),
});
const schemaVersion = z.literal(2);
const manifestSchema = z.object({
  schemaVersion,
  mediaType: z.string().max(255).optional(),
  config: descriptor,
  layers: z.array(descriptor).max(maxLayers),
});
const indexSchema = z.object({
  schemaVersion,
  mediaType: z.string().max(255).optional(),
  manifests: z.array(descriptor.extend({ platform: platform.nullish() })).max(maxIndexEntries),
});

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>> | null | undefined;
}

export interface IndexEntry extends Descriptor {
  readonly platform?:
    | { readonly os: string; readonly architecture: string; readonly variant?: string | null | undefined }
    | null
    | undefined;
}

export interface ImageManifest {
  readonly kind: 'manifest';
  readonly mediaType: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

export interface ImageIndex {
  readonly kind: 'index';
  readonly mediaType: string;
  readonly manifests: readonly IndexEntry[];
}

/**
 * Reads an OCI or Docker schema 2 manifest or index. `claimedType` is what the server or the descriptor said it is;
 * a document that could be read as both kinds, or as another than claimed, is refused (CVE-2021-41190).
 * @param subject names the document in errors
 * @throws HrunError IMAGE_INVALID
 */
export function parseManifest(
  bytes: Uint8Array,
  claimedType: string | undefined,
  subject: string,
): ImageManifest | ImageIndex {
  const document = parseJson(bytes, subject);
  const shape = check(
    z.looseObject({
      schemaVersion: z.unknown().optional(),
      layers: z.unknown().optional(),
      manifests: z.unknown().optional(),
    }),
    document,
    subject,
  );
  if (shape.schemaVersion === 1) {
    throw invalid(subject, 'has schema version 1', 'push the image again with a tool of this decade');
  }
  if (shape.layers !== undefined && shape.manifests !== undefined) {
    throw invalid(subject, 'claims to be a manifest and an index at once');
  }
  if (shape.manifests !== undefined) {
    const { mediaType: ownType, manifests } = check(indexSchema, document, subject);
    return { kind: 'index', mediaType: agree(indexTypes, ownType, claimedType, subject), manifests };
  }
  const { mediaType: ownType, config, layers } = check(manifestSchema, document, subject);
  const mediaType = agree(manifestTypes, ownType, claimedType, subject);
  if (!configTypes.includes(config.mediaType)) {
    throw invalid(subject, `is not a container image: its config has type ${quoted(config.mediaType)}`);
  }
  for (const layer of layers) {
    if (!layerType.test(layer.mediaType)) {
      throw invalid(subject, `has a layer of type ${quoted(layer.mediaType)}, which is no file system layer`);
    }
  }
  return { kind: 'manifest', mediaType, config, layers };
}

/** Parses JSON of untrusted origin. @throws HrunError IMAGE_INVALID naming `subject` */
export function parseJson(bytes: Uint8Array, subject: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new HrunError('IMAGE_INVALID', `${subject} is not valid JSON: ${printable(messageOf(cause))}`, {
      cause,
    });
  }
}

/** @throws HrunError IMAGE_INVALID naming `subject` and the first field that is wrong */
export function check<T>(schema: z.ZodType<T>, document: unknown, subject: string): T {
  const result = schema.safeParse(document);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const where = issue === undefined || issue.path.length === 0 ? '' : `${printable(issue.path.join('.'))}: `;
  throw new HrunError('IMAGE_INVALID', `${subject} is invalid: ${where}${issue?.message ?? 'wrong'}`, {
    cause: result.error,
  });
}

function agree(
  allowed: readonly string[],
  ownType: string | undefined,
  claimedType: string | undefined,
  subject: string,
): string {
  const known = [...indexTypes, ...manifestTypes];
  const claimed = claimedType !== undefined && known.includes(claimedType) ? claimedType : undefined;
  const mediaType = ownType ?? allowed[0] ?? '';
  if (!allowed.includes(mediaType)) {
    throw invalid(subject, `has the unknown media type ${quoted(mediaType)}`);
  }
  if (claimed !== undefined && (ownType === undefined ? !allowed.includes(claimed) : claimed !== ownType)) {
    throw invalid(subject, `is announced as ${claimed} but is ${ownType ?? `like ${mediaType}`}`);
  }
  return ownType ?? claimed ?? mediaType;
}

function invalid(subject: string, what: string, hint?: string): HrunError {
  return new HrunError('IMAGE_INVALID', `${subject} ${what}`, hint === undefined ? {} : { hint });
}

function quoted(untrusted: string): string {
  return `"${printable(untrusted, 100)}"`;
}
