import { join } from 'node:path';
import type { LayoutReader } from '../image/layoutReader.ts';
import type { CallerFiles } from './callerFiles.ts';

/** An OCI layout in a directory of the caller, read through its own hands. */
export function layoutOfCaller(files: CallerFiles, directory: string): LayoutReader {
  return {
    name: directory,
    readFile: (path, maxBytes, signal) => files.readFile(join(directory, path), maxBytes, signal),
    async *openStream(path, signal) {
      await using reader = await files.openRead(join(directory, path), signal);
      yield* reader;
    },
  };
}
