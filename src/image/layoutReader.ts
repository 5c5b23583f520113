/**
 * Read access to an OCI image layout, wherever it is. Paths are relative, made by hrun from fixed names and digests
 * (`index.json`, `blobs/sha256/<hex>`), never taken from the layout.
 */
export interface LayoutReader {
  /** For messages. */
  readonly name: string;
  /** The whole file. Fails when it is missing or longer than `maxBytes`. */
  readFile(path: string, maxBytes: number, signal: AbortSignal): Promise<Uint8Array>;
  openStream(path: string, signal: AbortSignal): AsyncIterable<Uint8Array>;
}
