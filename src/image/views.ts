import type { Digest } from '../base/ids.ts';
import type { Image } from './imageStore.ts';
import { familiarName, familiarRepository, parseReference } from './reference.ts';

/** An image as `image inspect` shows it; plain data, rendered elsewhere. */
export function imageDetails(image: Image) {
  const { config } = image;
  const { process } = config;
  return {
    id: image.id,
    names: image.names.map((name) => familiarName(parseReference(name))),
    digests: image.repoDigests.map((name) => familiarName(parseReference(name))),
    createdAt: config.created ?? image.storedAt,
    author: config.author ?? '',
    comment: config.history.at(-1)?.comment ?? '',
    os: config.os,
    architecture: config.architecture,
    ...(config.variant !== undefined && { variant: config.variant }),
    sizeBytes: image.sizeBytes,
    diffIds: config.diffIds,
    config: {
      user: process.user,
      env: process.env,
      entrypoint: process.entrypoint ?? [],
      cmd: process.cmd ?? [],
      workingDir: process.workingDirectory,
      exposedPorts: process.exposedPorts,
      volumes: process.volumes,
      labels: process.labels,
      ...(process.stopSignal !== '' && { stopSignal: process.stopSignal }),
    },
  };
}

/** One name of an image. */
export interface ImageRow {
  readonly id: Digest;
  readonly repository?: string;
  readonly tag?: string;
  /** Of the manifest or index it was pulled by. */
  readonly digest?: Digest;
  readonly createdAtMs: number;
  readonly sizeBytes: number;
  readonly labels: Readonly<Record<string, string>>;
}

/** One row per name, as `images` lists them; an image without a name has one row with neither repository nor tag. */
export function imageRows(image: Image): readonly ImageRow[] {
  const common = {
    id: image.id,
    createdAtMs: Date.parse(image.config.created ?? image.storedAt),
    sizeBytes: image.sizeBytes,
    labels: image.config.process.labels,
  };
  const digests = new Map(
    image.repoDigests.map((name) => {
      const reference = parseReference(name);
      return [familiarRepository(reference), reference.digest] as const;
    }),
  );
  const rows = image.names.map((name) => {
    const reference = parseReference(name);
    const repository = familiarRepository(reference);
    const digest = digests.get(repository);
    return {
      ...common,
      repository,
      ...(reference.tag !== undefined && { tag: reference.tag }),
      ...(digest !== undefined && { digest }),
    };
  });
  return rows.length === 0 ? [common] : rows;
}

/** What the image was made of, newest first; the image's id goes with the newest. */
export function imageHistory(image: Image) {
  const layers = image.layers.values();
  const entries = image.config.history.map(({ created, createdBy, comment, emptyLayer }) => ({
    createdAtMs: Date.parse(created ?? image.storedAt),
    createdBy: createdBy ?? '',
    comment: comment ?? '',
    sizeBytes: emptyLayer ? 0 : (layers.next().value?.size ?? 0),
  }));
  return entries.reverse().map((entry, index) => (index === 0 ? { ...entry, id: image.id } : entry));
}
