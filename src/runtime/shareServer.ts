import { HrunError } from '../base/errors.ts';
import type { ShareCache } from '../oci/vmSpec.ts';

export const defaultShareCache: ShareCache = 'auto';

/**
 * The command of a share server, as a stand-in fills it in (docs/stand-in.md).
 * @throws HrunError INTERNAL when there is none
 */
export function shareServerArguments(
  serverPath: string | undefined,
  cache: ShareCache = defaultShareCache,
): string[] {
  if (serverPath === undefined) {
    throw new HrunError(
      'INTERNAL',
      'directories of this machine are shared by virtiofsd, which is not installed',
      {
        hint: 'install qemu-system-common (Debian 12) or virtiofsd',
      },
    );
  }
  // Rust's virtiofsd has other flags than the one of QEMU 7.2.
  return serverPath.includes('/libexec/')
    ? [serverPath, '--fd={fd}', '--shared-dir={tree}', `--cache=${cache}`, '--xattr']
    : [serverPath, '--fd={fd}', '-o', `source={tree},cache=${cache},xattr`, '--rlimit-nofile=20000'];
}
