import { z } from 'zod';
import { HrunError } from '../../base/errors.ts';

export const volumeDrivers = ['dir', 'disk'] as const;
export type VolumeDriver = (typeof volumeDrivers)[number];

/** `volume.json` in the directory of a volume. Version 1; a file of another one is refused. */
export const VolumeDefinitionSchema = z.object({
  version: z.literal(1),
  name: z.string(),
  /** `dir`: a directory of the host, shared with the guest; `disk`: an ext4 on a disk of its own. */
  driver: z.enum(volumeDrivers),
  createdAt: z.string(),
  labels: z.record(z.string(), z.string()),
  /** Made for one container, which did not name it. */
  anonymous: z.boolean(),
  /** Of a disk. */
  sizeBytes: z.int().positive().optional(),
});

export type VolumeDefinition = Readonly<z.infer<typeof VolumeDefinitionSchema>>;

/** Leaves room in a file name for what may stand around it. */
const maxNameLength = 200;

/**
 * The name of a volume as Docker allows it.
 * @throws HrunError INVALID_ARGUMENT
 */
export function parseVolumeName(text: string): string {
  if (text.length === 1) {
    throw new HrunError('INVALID_ARGUMENT', `volume name is too short: "${text}"`, {
      hint: 'a name has at least two characters',
    });
  }
  if (/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(text) && text.length <= maxNameLength) return text;
  throw new HrunError(
    'INVALID_ARGUMENT',
    `"${text}" includes invalid characters for a volume name, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
    { hint: 'for a directory of this machine write an absolute path, or one that begins with ./' },
  );
}
