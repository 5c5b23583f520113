import type { Log } from '../base/log.ts';

export interface VmmDeps {
  /** The emulator, as `findQemu` found it. */
  readonly qemuPath: string;
  readonly log: Pick<Log, 'debug' | 'warn'>;
}
