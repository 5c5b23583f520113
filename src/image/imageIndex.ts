import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { reasonOf } from '../base/damage.ts';
import { errnoOf, HrunError } from '../base/errors.ts';
import { type Digest, parseDigest } from '../base/ids.ts';
import { parseStateText, writeStateFile } from '../base/stateFile.ts';

const digest = z
  .string()
  .regex(/^sha256:[0-9a-f]{64}$/)
  .transform(parseDigest);
const layerSchema = z.object({ digest, diffId: digest, mediaType: z.string(), size: z.int().nonnegative() });
const recordSchema = z.object({
  id: digest,
  configSize: z.int().nonnegative(),
  manifestDigest: digest,
  names: z.array(z.string()),
  repoDigests: z.array(z.string()),
  layers: z.array(layerSchema),
  storedAt: z.iso.datetime(),
});
const indexSchema = z.object({ version: z.literal(1), images: z.array(recordSchema) });

export interface ImageLayer {
  /** Of the blob as it is stored. */
  readonly digest: Digest;
  /** Of the uncompressed tar. */
  readonly diffId: Digest;
  readonly mediaType: string;
  /** Bytes of the blob. */
  readonly size: number;
}

/** One image in `index.json`. Everything it refers to is in the blob store before it is written. */
export interface ImageRecord {
  /** Digest of the config: Docker's image id. */
  readonly id: Digest;
  readonly configSize: number;
  readonly manifestDigest: Digest;
  /** Canonical names with tags, sorted. */
  readonly names: readonly string[];
  /** Canonical `repository@digest` it was pulled by, sorted. */
  readonly repoDigests: readonly string[];
  readonly layers: readonly ImageLayer[];
  /** ISO 8601 */
  readonly storedAt: string;
}

/** A missing file is an empty index. @throws HrunError STATE_DAMAGED for one that hrun did not write */
export async function readIndex(path: string): Promise<readonly ImageRecord[]> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
  try {
    return indexSchema.parse(parseStateText(text)).images;
  } catch (cause) {
    throw new HrunError('STATE_DAMAGED', reasonOf(cause), { cause });
  }
}

export async function writeIndex(path: string, images: readonly ImageRecord[]): Promise<void> {
  await writeStateFile(path, { version: 1, images });
}
