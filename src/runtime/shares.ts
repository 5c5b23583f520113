import { HrunError } from '../base/errors.ts';
import type { CallerFiles } from './callerFiles.ts';
import type { ContainerConfig } from './containerRecord.ts';

export interface OpenShares extends AsyncDisposable {
  readonly socketPath: string;
  readonly pid: number;
}

export async function openShares(
  binds: ContainerConfig['binds'],
  _runDir: string,
  _files: CallerFiles,
  _serverPath: string | undefined,
  _signal: AbortSignal,
): Promise<OpenShares | undefined> {
  if (binds.length === 0) return undefined;
  throw new HrunError('INVALID_ARGUMENT', 'bind mounts are not there yet');
}
