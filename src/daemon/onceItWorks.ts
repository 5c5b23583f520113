/**
 * `work`, done once and remembered; a failure is told to everybody who waits for it and tried again for the next who
 * asks, so that a wrong configuration can be put right under a running daemon.
 */
export function onceItWorks<T>(work: () => Promise<T>): () => Promise<T> {
  let done: Promise<T> | undefined;
  return () => {
    done ??= work().catch((error: unknown) => {
      done = undefined;
      throw error;
    });
    return done;
  };
}
