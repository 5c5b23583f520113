import { arch } from 'node:process';
import { HrunError } from '../base/errors.ts';
import type { ImageConfig } from '../oci/imageConfig.ts';
import type { ImageIndex, IndexEntry } from '../oci/imageManifest.ts';

/** In Go's words, as the image-spec has it. */
export interface Platform {
  readonly os: 'linux';
  readonly architecture: string;
  /** The highest one that runs here: `v8` for arm64, `v1` to `v4` for amd64. Lower ones of the architecture run too. */
  readonly variant: string;
}

const architectures: Readonly<Record<string, Platform>> = {
  x64: { os: 'linux', architecture: 'amd64', variant: 'v1' },
  arm64: { os: 'linux', architecture: 'arm64', variant: 'v8' },
  riscv64: { os: 'linux', architecture: 'riscv64', variant: '' },
  s390x: { os: 'linux', architecture: 's390x', variant: '' },
  ppc64: { os: 'linux', architecture: 'ppc64le', variant: '' },
};

/** The platform of this host's guests: its own architecture, at the level that every CPU of it has. */
export function hostPlatform(): Platform {
  return architectures[arch] ?? { os: 'linux', architecture: arch, variant: '' };
}

/**
 * The entry of an index for a platform: the best variant that still runs, the first among equals. An entry without
 * a platform is taken only if it is alone (its config is checked later).
 * @throws HrunError PLATFORM_MISMATCH naming what the index has
 */
export function choosePlatform(index: ImageIndex, wanted: Platform, subject: string): IndexEntry {
  const only = index.manifests.length === 1 ? index.manifests[0] : undefined;
  if (only !== undefined && (only.platform === undefined || only.platform === null)) return only;
  let best: { entry: IndexEntry; level: number } | undefined;
  for (const entry of index.manifests) {
    const { platform } = entry;
    if (platform?.os !== wanted.os || platform.architecture !== wanted.architecture) continue;
    const level = levelOf(platform.variant, wanted);
    if (level > levelOf(wanted.variant, wanted) || (best !== undefined && level <= best.level)) continue;
    best = { entry, level };
  }
  if (best !== undefined) return best.entry;
  throw mismatch(subject, wanted, index.manifests.map(nameOfEntry));
}

/** @throws HrunError PLATFORM_MISMATCH when the image is for another system or architecture */
export function checkPlatform(config: ImageConfig, wanted: Platform, subject: string): void {
  const level = levelOf(config.variant, wanted);
  const runs =
    config.os === wanted.os &&
    config.architecture === wanted.architecture &&
    level <= levelOf(wanted.variant, wanted);
  if (!runs) throw mismatch(subject, wanted, [name(config.os, config.architecture, config.variant)]);
}

/** `v2` is 2; an absent variant is the architecture's base, which for arm64 is v8. */
function levelOf(variant: string | null | undefined, { architecture }: Platform): number {
  if (variant === undefined || variant === null || variant === '') return architecture === 'arm64' ? 8 : 1;
  const digits = /^v(\d{1,3})$/.exec(variant)?.[1];
  return digits === undefined ? Number.POSITIVE_INFINITY : Number(digits);
}

function nameOfEntry({ platform }: IndexEntry): string | undefined {
  // Attestations sit in an index as unknown/unknown.
  if (platform === undefined || platform === null || platform.os === 'unknown') return undefined;
  return name(platform.os, platform.architecture, platform.variant);
}

function name(os: string, architecture: string, variant: string | null | undefined): string {
  return [os, architecture, variant]
    .filter((part) => part !== undefined && part !== null && part !== '')
    .join('/')
    .replace(/[^\w/.-]/g, '?')
    .slice(0, 100);
}

function mismatch(subject: string, wanted: Platform, existing: readonly (string | undefined)[]): HrunError {
  const known = [...new Set(existing.filter((entry) => entry !== undefined))];
  const has = known.length === 0 ? 'no platform' : known.slice(0, 20).join(', ');
  return new HrunError(
    'PLATFORM_MISMATCH',
    `${subject} is not for ${wanted.os}/${wanted.architecture}: it has ${has}`,
    { hint: `a microVM runs the architecture of its host; use an image built for ${wanted.architecture}` },
  );
}
