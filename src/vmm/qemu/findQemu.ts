import { execFile } from 'node:child_process';
import { access, constants, stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { HrunError } from '../../base/errors.ts';
import { printable } from '../../base/text.ts';

const program = 'qemu-system-x86_64';

/**
 * The path of the emulator: the configured one, or the first in `searchPath` (as PATH).
 * @throws HrunError QEMU_MISSING
 */
export async function findQemu(configured: string | undefined, searchPath: string): Promise<string> {
  if (configured !== undefined) {
    return await findProgram(configured);
  }
  for (const directory of searchPath.split(delimiter)) {
    const path = join(directory, program);
    if (directory.startsWith('/') && (await isExecutable(path))) return path;
  }
  throw qemuMissing(program);
}

/** @throws HrunError QEMU_MISSING unless it is there and executable */
export async function findProgram(path: string): Promise<string> {
  if (await isExecutable(path)) return path;
  throw qemuMissing(path);
}

/** What to do about it. */
function qemuMissing(qemuPath: string): HrunError {
  return new HrunError('QEMU_MISSING', `${qemuPath} is not installed`, {
    hint: 'apt-get install qemu-system-x86, or name it in the configuration (qemuPath)',
  });
}

const versions = new Map<string, string>();

/** Such as "7.2.22"; asked once for each state of the file. @throws HrunError QEMU_FAILED when it does not tell */
export async function qemuVersion(path: string, signal: AbortSignal): Promise<string> {
  const identity = await fileIdentity(path);
  const known = versions.get(identity);
  if (known !== undefined) return known;
  const { stdout } = await promisify(execFile)(path, ['--version'], { signal, timeout: 10_000 }).catch(
    (cause: unknown) => {
      throw new HrunError('QEMU_FAILED', `${path} does not tell its version`, { cause });
    },
  );
  const version = /version (\d+\.\d+(?:\.\d+)?)/.exec(stdout)?.[1];
  if (version === undefined) {
    throw new HrunError('QEMU_FAILED', `${path} says "${printable(stdout)}", which is no version of QEMU`);
  }
  versions.set(identity, version);
  return version;
}

/** Changes when the file is replaced or written to. */
export async function fileIdentity(path: string): Promise<string> {
  const { dev, ino, size, mtimeMs } = await stat(path);
  return [path, dev, ino, size, mtimeMs].join(':');
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
