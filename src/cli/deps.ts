import type { Config } from '../base/config.ts';
import type { Paths } from '../base/paths.ts';
import type { Engine } from '../runtime/engine.ts';
import type { Session } from './session.ts';

/** What the verbs stand on; built in the daemon's main. */
export interface CliDeps {
  readonly paths: Paths;
  readonly daemon: DaemonControl;
  /** @throws HrunError INVALID_CONFIG, until the file is right */
  config(): Promise<Config>;
  /** @throws what kept the engine from starting, until it starts */
  engine(): Promise<Engine>;
  /** Milliseconds since the epoch. */
  now(): number;
}

/** The daemon itself, as `hrun daemon` and `hrun version` see it. */
export interface DaemonControl {
  readonly version: string;
  readonly pid: number;
  /** Whose daemon it is. */
  readonly uid: number;
  readonly startedAtMs: number;
  /** Commands at work, the asking one included. */
  readonly activeCommands: number;
  /** Ends the daemon once `asking` has its answer. Containers that run go on. */
  stop(asking: Session): void;
}

/** What one verb works with. */
export interface Context {
  readonly session: Session;
  readonly deps: CliDeps;
  /** Shorthand for `session.signal`. */
  readonly signal: AbortSignal;
  /** Writes to the caller's stdout. */
  print(text: string): Promise<void>;
  /** Writes to the caller's stderr. */
  complain(text: string): Promise<void>;
}
