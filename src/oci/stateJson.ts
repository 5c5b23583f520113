/** runtime-spec runtime.md, "State". */
export interface OciState {
  readonly ociVersion: string;
  readonly id: string;
  readonly status: 'creating' | 'created' | 'running' | 'stopped';
  /** Absent where the receiver has to find it out itself. */
  readonly pid: number | undefined;
  readonly bundle: string;
  readonly annotations: Readonly<Record<string, string>>;
}

/** As hooks read it from stdin. */
export function stateJson({ ociVersion, id, status, pid, bundle, annotations }: OciState): string {
  return JSON.stringify({
    ociVersion,
    id,
    status,
    ...(pid !== undefined && { pid }),
    bundle,
    ...(Object.keys(annotations).length > 0 && { annotations }),
  });
}
