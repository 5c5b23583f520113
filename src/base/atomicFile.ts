import { randomBytes } from 'node:crypto';
import { open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/**
 * Replaces `path` by `content` so that after a crash at any moment the old or the new content is there, whole:
 * a temporary file in the same directory, fsync, rename, fsync of the directory. Without `durable` both fsyncs are left
 * out: that survives the end of this process, but after a crash of the host the file may be old, or empty.
 * It does not serialise writers: two at once leave one of both contents.
 */
export async function writeFileAtomically(
  path: string,
  content: string | Uint8Array,
  { mode = 0o600, durable = true }: { readonly mode?: number; readonly durable?: boolean } = {},
): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}`);
  try {
    await using file = await open(temporary, 'wx', mode);
    await file.writeFile(content);
    if (durable) await file.sync();
    await rename(temporary, path);
  } catch (cause) {
    await unlink(temporary).catch(() => {});
    throw cause;
  }
  if (!durable) return;
  await using directory = await open(dirname(path), 'r');
  await directory.sync();
}
