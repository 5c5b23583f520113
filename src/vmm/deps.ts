import type { Log } from '../base/log.ts';
import type { JailPolicy } from './jail/policy.ts';

export interface VmmDeps {
  /** The emulator, as `findQemu` found it. */
  readonly qemuPath: string;
  /** Loaded into QEMU where a guest's RAM is a clone's (src/preload); without it such a guest keeps what it had once. */
  readonly preloadPath?: string | undefined;
  readonly jail: JailPolicy;
  readonly log: Pick<Log, 'debug' | 'warn'>;
}
