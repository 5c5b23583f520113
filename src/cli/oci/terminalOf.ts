import { posix } from 'node:path';
import { parseRuntimeSpec } from '../../oci/runtimeSpec.ts';
import { maxSpecBytes } from '../../oci/specJson.ts';
import type { CallerFiles } from '../../runtime/callerFiles.ts';

/** Whether a bundle asks for a terminal. What is wrong with it is told when it is made a container. */
export async function bundleHasTerminal(
  bundle: string,
  files: CallerFiles,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    const path = posix.join(posix.resolve(files.cwd, bundle), 'config.json');
    return parseRuntimeSpec(await files.readFile(path, maxSpecBytes + 1, signal)).process?.terminal === true;
  } catch {
    signal.throwIfAborted();
    return false;
  }
}
