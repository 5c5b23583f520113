import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { HrunError } from '../../base/errors.ts';

/**
 * The shared libraries of a program of this host, its loader among them, by their paths: ldd(1) runs the loader, which
 * is fine for programs that are executed anyway. A static program has none.
 * @throws HrunError INTERNAL when one is missing, or `path` is no program of this host
 */
export async function librariesOf(path: string, signal: AbortSignal): Promise<string[]> {
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };
  const { stdout } = await promisify(execFile)('ldd', [path], { env, signal }).catch((cause: unknown) => {
    signal.throwIfAborted();
    throw new HrunError('INTERNAL', `the libraries of ${path} cannot be found out`, {
      cause,
      hint: 'it has to be a program, not a script, and ldd has to be installed',
    });
  });
  return parseLdd(stdout, path);
}

/** Pure; as `librariesOf`. */
export function parseLdd(output: string, path: string): string[] {
  return output
    .split('\n')
    .map((line) => line.trim())
    .flatMap((line) => {
      if (line.endsWith('=> not found')) {
        throw new HrunError('INTERNAL', `${path} lacks a library: ${line.split(' ')[0]}`);
      }
      const found = /^(?:\S+ => )?(\/\S+) \(0x[0-9a-f]+\)$/.exec(line)?.[1];
      return found === undefined ? [] : [found];
    });
}
