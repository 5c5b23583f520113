/** What the room needs of the daemon's log; pino fits. */
export interface VmmLog {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface VmmDeps {
  /** The emulator, as `findQemu` found it. */
  readonly qemuPath: string;
  readonly log: VmmLog;
}
