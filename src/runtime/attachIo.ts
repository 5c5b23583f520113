import type { Writable } from 'node:stream';
import type { AttachRecord } from './attachRecord.ts';

/** The terminal, stdio and signals of the command that a user sits at, as a workload is attached to them. */
export interface AttachIo {
  /** Undefined when the workload gets no input from this command. */
  readonly stdin: InputChannel | undefined;
  readonly stdout: OutputChannel;
  readonly stderr: OutputChannel;
  /** Size of the caller's terminal; undefined when it has none. */
  readonly terminalSize: TerminalSize | undefined;
  onResize(listener: (size: TerminalSize) => void): Disposable;
  /**
   * From the first listener on, signals that reach the front door come here (by number) instead of ending it;
   * what arrived before anybody listened is delivered to the first listener.
   */
  onSignal(listener: (signal: number) => void): Disposable;
  /** Puts the caller's terminal into raw mode until disposed (or the command ends). Nothing without a terminal. */
  rawTerminal(): Disposable;
  /** Aborted when the user typed the detach keys. */
  readonly detached: AbortSignal;
  /**
   * Puts `record` on disk, then tells the front door that it may come back after a lost connection or daemon. Called
   * once, before the workload starts. A lost connection still aborts the signal of this command; the front door that
   * comes back is a new command, `ContainerEngine.resume`.
   */
  makeResumable(record: AttachRecord): Promise<void>;
  /**
   * Puts the workload's exit code on disk beside the record, so that it is told even if this daemon dies now. Called
   * when all output is written and before what the code could be read from is deleted (`--rm`).
   */
  settle(exitCode: number): Promise<void>;
}

export interface TerminalSize {
  readonly rows: number;
  readonly columns: number;
}

/** One of the caller's output descriptors. Offsets count the bytes of the whole command, banners included. */
export interface OutputChannel {
  /**
   * Queues bytes in order, waiting while 256 KiB are not yet written by the front door. Bytes for a descriptor that
   * is gone are dropped.
   * @throws the reason of `signal`
   */
  write(bytes: Uint8Array, signal: AbortSignal): Promise<void>;
  /** Offset of the next byte that is given to `write`. */
  readonly offset: bigint;
  /** Everything below is written to the caller's descriptor. Moves to `offset` when the descriptor is gone. */
  readonly written: bigint;
  /** Waits until `written` is beyond `offset`; answers the new value. @throws the reason of `signal` */
  writtenBeyond(offset: bigint, signal: AbortSignal): Promise<bigint>;
  /** Aborted when the caller closed its end for good (EPIPE). */
  readonly closed: AbortSignal;
  /** The same channel for code that renders text. */
  readonly writable: Writable;
}

/** The caller's stdin. Offsets count the bytes of the whole command. */
export interface InputChannel {
  /**
   * The bytes from offset `from` on, which is 0 unless the command was resumed; nothing is read before the first
   * call. Ends at the end of input. Only one reader at a time.
   * @throws the reason of `signal`
   */
  read(from: bigint, signal: AbortSignal): AsyncIterable<InputPiece>;
  /** Bytes below `offset` are safe with the workload: the front door forgets them and may send more. */
  accept(offset: bigint): void;
  /** The workload reads no more. */
  close(): void;
}

export interface InputPiece {
  readonly offset: bigint;
  readonly bytes: Uint8Array;
}
