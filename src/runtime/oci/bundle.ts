import { posix } from 'node:path';
import { errnoOf, HrunError, isHrunError } from '../../base/errors.ts';
import { type HostPlan, hostPlanOf } from '../../oci/containerPlan.ts';
import type { ProcessSpec } from '../../oci/processSpec.ts';
import { parseRuntimeSpec, type RuntimeSpec } from '../../oci/runtimeSpec.ts';
import { maxSpecBytes } from '../../oci/specJson.ts';
import type { CallerFiles } from '../callerFiles.ts';

const modeType = 0o170000;
const modeDirectory = 0o040000;

/** A bundle as it was found; what is read later of its files does not count. */
export interface Bundle {
  readonly directory: string;
  readonly rootfs: string;
  readonly configJson: Buffer;
  readonly spec: RuntimeSpec & { readonly process: ProcessSpec };
  readonly plan: HostPlan;
}

/**
 * Reads config.json through the caller and checks what needs no guest.
 * @throws HrunError SPEC_INVALID or HAND_FAILED naming the file or field
 */
export async function readBundle(path: string, files: CallerFiles, signal: AbortSignal): Promise<Bundle> {
  const named = posix.resolve(files.cwd, path);
  const directory = await files.stat(named, { followLink: true }, signal).catch((error: unknown) => {
    throw missing(error, `chdir ${path}: no such file or directory`);
  });
  if ((directory.mode & modeType) !== modeDirectory) throw invalid(`chdir ${path}: not a directory`);
  const bundle = directory.realPath;
  const configJson = await files
    .readFile(posix.join(bundle, 'config.json'), maxSpecBytes + 1, signal)
    .catch((error: unknown) => {
      throw missing(error, 'JSON specification file config.json not found');
    });
  const spec = parseRuntimeSpec(configJson);
  const plan = hostPlanOf(spec);
  const { process } = spec;
  if (process === undefined) throw invalid('process property must not be empty');
  const rootfs = await rootfsOf(plan.root.path, bundle, files, signal);
  return { directory: bundle, rootfs, configJson, spec: { ...spec, process }, plan };
}

async function rootfsOf(
  path: string,
  bundle: string,
  files: CallerFiles,
  signal: AbortSignal,
): Promise<string> {
  const rootfs = posix.resolve(bundle, path);
  const found = await files.stat(rootfs, { followLink: false }, signal).catch((error: unknown) => {
    throw missing(error, `invalid rootfs: rootfs (${rootfs}) does not exist`);
  });
  if ((found.mode & modeType) !== modeDirectory) {
    throw invalid(`invalid rootfs: ${rootfs} is not a directory, or a symlink`);
  }
  if (rootfs === '/') throw invalid('invalid rootfs: the root of the host cannot be a container');
  return found.realPath === '' ? rootfs : found.realPath;
}

function missing(error: unknown, text: string): unknown {
  const gone = isHrunError(error, 'HAND_FAILED') && errnoOf(error.cause) === 'ENOENT';
  return gone ? new HrunError('SPEC_INVALID', text, { cause: error }) : error;
}

function invalid(message: string): HrunError {
  return new HrunError('SPEC_INVALID', message);
}
