import type { Semaphore } from '../../base/semaphore.ts';
import type { Pool } from '../../pool/pool.ts';
import type { RuntimeDeps } from '../runtimeDeps.ts';
import type { HandedOver } from './handedOver.ts';
import type { LiveOciContainers } from './liveOci.ts';
import type { OciStore } from './ociStore.ts';

/** What the OCI verbs stand on. */
export interface OciDeps
  extends Pick<
    RuntimeDeps,
    'config' | 'paths' | 'log' | 'events' | 'defaults' | 'now' | 'vmm' | 'accelerator' | 'shareServer'
  > {
  readonly store: OciStore;
  readonly live: LiveOciContainers;
  readonly handedOver: HandedOver;
  readonly pool: Pick<Pool, 'claimServed' | 'launching'>;
  /** MicroVMs that boot at a time. */
  readonly boots: Semaphore;
}
