import type { ContainerId } from '../../base/ids.ts';
import type { CallerFiles } from '../../runtime/callerFiles.ts';

/** `--cidfile`: the id alone, in a file that must not exist. @throws HrunError HAND_FAILED */
export async function writeCidfile(
  path: string | undefined,
  id: ContainerId,
  files: CallerFiles,
  signal: AbortSignal,
): Promise<void> {
  if (path === undefined) return;
  await using file = await files.openWrite(path, { exclusive: true, mode: 0o644 }, signal);
  await file.write(Buffer.from(id), signal);
  await file.close(signal);
}
