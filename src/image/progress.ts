/** Told what goes on while a user waits. Calls are cheap and may be many; the receiver thins them out. */
export interface ImageProgress {
  /** A line that stands for itself: `Pulling from library/busybox`. */
  message(text: string): void;
  /** State of one part, named by `id` (a short digest): `Downloading` 12 of 34 bytes. */
  part(id: string, status: string, amount?: ImageProgressAmount): void;
}

interface ImageProgressAmount {
  readonly current: number;
  /** Left out while unknown. */
  readonly total?: number;
  readonly unit: 'bytes' | 'entries';
}

export const noProgress: ImageProgress = { message: () => {}, part: () => {} };

/** Twelve hex digits of a digest, as tables and progress bars show it. */
export function shortDigest(digest: string): string {
  return digest.replace(/^sha256:/, '').slice(0, 12);
}
