import type { InputChannel, OutputChannel, TerminalSize } from '../runtime/attachIo.ts';
import type { AttachRecord } from '../runtime/attachRecord.ts';
import type { CallerFiles } from '../runtime/callerFiles.ts';
import type { NetNamespace } from '../sys/netNamespace.ts';

/** One command: what it was called with, and everything its front door lends. */
export interface Session {
  /** Without argv[0]. */
  readonly argv: readonly string[];
  readonly environment: ReadonlyMap<string, string>;
  readonly cwd: string;
  /** Of the front door, as the daemon's pid namespace has it. */
  readonly pid: number;
  /** When the front door was started: CLOCK_MONOTONIC, nanoseconds; unknown of one that came back. */
  readonly startedNs: bigint | undefined;
  readonly isTerminal: { readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean };
  readonly terminalSize: TerminalSize | undefined;
  readonly stdin: InputChannel;
  readonly stdout: OutputChannel;
  readonly stderr: OutputChannel;
  readonly files: CallerFiles;
  /** See Caller. */
  openNetns(): NetNamespace;
  /** Aborted, with an HrunError CANCELLED, when the front door is gone or the daemon stops. */
  readonly signal: AbortSignal;
  onResize(listener: (size: TerminalSize) => void): Disposable;
  /** See AttachIo. */
  onSignal(listener: (signal: number) => void): Disposable;
  rawTerminal(): Disposable;
  makeResumable(record: AttachRecord): Promise<void>;
  settle(exitCode: number): Promise<void>;
}
