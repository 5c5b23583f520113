import type { Command } from 'commander';
import type { Context } from './deps.ts';

/** A verb of the command line: what it accepts and what it does. One per file in cli/host. */
export interface Verb {
  /** Adds options to a command that has a name, a summary and a usage already. */
  configure(command: Command): void;
  /** After parsing. Answers the exit code; throws HrunErrors. */
  run(command: Command, context: Context): Promise<number>;
}

/** A verb before its code is loaded. */
export interface VerbEntry {
  /** `run`, or two words: `image ls`. */
  readonly name: string;
  /** Other names, as Docker has them. */
  readonly aliases?: readonly string[];
  readonly summary: string;
  /** What follows the name: `[OPTIONS] CONTAINER [CONTAINER...]`. */
  readonly usage: string;
  /** Bounds of the number of arguments. */
  readonly args: readonly [min: number, max: number];
  /** Options end at the first argument; the rest is somebody else's command line. */
  readonly passThrough?: true;
  /** Its exit code is the workload's. */
  readonly answersForWorkload?: true;
  load(): Promise<Verb>;
}
