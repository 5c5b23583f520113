import type { JailStep } from '../base/jailSteps.ts';
import type { Caller, Progress } from './engine.ts';
import type { CreateRequest } from './runRequest.ts';
import type { ImageConfigView } from './views.ts';

/** What running a container needs of the images. */
export interface ContainerImages {
  /**
   * The image that a request names, pulled when its policy says so.
   * @throws HrunError IMAGE_UNKNOWN, REGISTRY_UNREACHABLE, PLATFORM_MISMATCH, …
   */
  resolve(
    request: Pick<CreateRequest, 'image' | 'pull' | 'platform' | 'insecure'>,
    caller: Caller,
    signal: AbortSignal,
  ): Promise<ResolvedImage>;
  /**
   * The read-only disk of an image, made if it is not there yet. Kept from removal until disposed.
   * @param making how the microVM that makes it is jailed, and who is told how far it is
   * @throws HrunError IMAGE_UNKNOWN, LAYER_CORRUPT, DISK_FULL, …
   */
  openDisk(imageId: string, making: DiskMaking, signal: AbortSignal): Promise<ImageDiskLease>;
}

export interface DiskMaking {
  readonly progress: Progress;
  /** Steps of the jail that may be impossible, besides those of the configuration. */
  readonly allowWeakerJail?: readonly JailStep[] | undefined;
}

export interface ResolvedImage {
  /** Digest of the config. */
  readonly id: string;
  readonly config: ImageConfigView;
}

export interface ImageDiskLease extends Disposable {
  readonly path: string;
  readonly fs: 'ext4';
}
