import type { ContainerId } from '../base/ids.ts';
import type { Caller } from '../runtime/engine.ts';
import type { Context } from './deps.ts';
import { openProgress, type ShownProgress } from './render/progress.ts';

export interface CallerOptions {
  /** Show nothing while a user waits. */
  readonly quiet?: boolean;
  readonly containerCreated?: (id: ContainerId, signal: AbortSignal) => Promise<void>;
}

/** The engine's view of who asks. Disposing takes the progress bars off the screen. */
export function openCaller(
  { session }: Context,
  { quiet = false, containerCreated }: CallerOptions = {},
): Caller & { readonly progress: ShownProgress } & Disposable {
  const progress = openProgress({
    output: session.stderr.writable,
    isTerminal: session.isTerminal.stderr,
    columns: () => session.terminalSize?.columns ?? 80,
    quiet,
  });
  return {
    files: session.files,
    openNetns: session.openNetns,
    environment: session.environment,
    progress,
    startedNs: session.startedNs,
    containerCreated: containerCreated ?? (async () => {}),
    [Symbol.dispose]: () => progress.stop(),
  };
}
