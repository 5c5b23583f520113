import type { NetNamespace } from '../sys/netNamespace.ts';
import type { CallerFiles } from './callerFiles.ts';

/** Whose network a container becomes part of. */
export interface NetworkCaller {
  readonly files: CallerFiles;
  /** A new handle of the caller's network namespace, to be disposed by who asked. */
  openNetns(): NetNamespace;
}
