import type { Engine } from '../../runtime/engine.ts';
import type { OciCaller, OciEngine, OciName } from '../../runtime/oci/ociEngine.ts';
import type { Context } from '../deps.ts';
import type { FlagSpec, Flags } from './goFlags.ts';

/** A command as it came in: its words, and the global options among them. */
export interface GivenCommand {
  readonly argv: readonly string[];
  readonly globals: Flags;
}

/** One of runc's verbs. */
export interface OciVerb {
  readonly name: string;
  readonly summary: string;
  /** What follows the name in its help. */
  readonly usage: string;
  readonly flags: readonly FlagSpec[];
  /** Bounds of the number of arguments. */
  readonly args: readonly [min: number, max: number];
  /** The exit code of what hrun itself fails with; 1 unless it says otherwise. */
  readonly failureCode?: number;
  /** Answers the exit code. */
  run(call: OciCall): Promise<number>;
}

export interface OciCall {
  readonly context: Context;
  readonly flags: Flags;
  readonly args: readonly string[];
  readonly oci: OciEngine;
  readonly caller: OciCaller;
  readonly signal: AbortSignal;
  readonly command: GivenCommand;
  /** Scope of `--root`. */
  readonly scope: string;
  /** The container that the first argument names. */
  name(): OciName;
  readonly engine: Engine;
}
