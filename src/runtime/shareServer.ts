import { HrunError } from '../base/errors.ts';

/**
 * The command of a share server, as a stand-in fills it in (docs/stand-in.md).
 * @throws HrunError INTERNAL when there is none
 */
export function shareServerArguments(serverPath: string | undefined): string[] {
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
    ? [serverPath, '--fd={fd}', '--shared-dir={tree}', '--cache=auto', '--xattr']
    : [serverPath, '--fd={fd}', '-o', 'source={tree},cache=auto,xattr', '--rlimit-nofile=20000'];
}
