import { HrunError } from '../base/errors.ts';
import type { ContainerConfig, ContainerRecord } from './containerRecord.ts';
import type { CreateRequest } from './runRequest.ts';
import type { RuntimeDeps } from './runtimeDeps.ts';

/**
 * The container whose microVM another is to live in that wants its network: the one named, or where that one lives itself.
 * @throws HrunError NOT_FOUND
 */
export function hostOfNetwork(reference: string, { store }: Pick<RuntimeDeps, 'store'>): ContainerRecord {
  const named = store.find(reference);
  const { sharedWith } = named.config.network;
  return sharedWith === undefined ? named : store.find(sharedWith);
}

/** The request for a container that lives in the microVM of `host`: it has the names of that. */
export function requestInside(request: CreateRequest, { id, config }: ContainerRecord): CreateRequest {
  const { hostname, domainname } = config;
  return { ...request, hostname, domainname, network: { ...request.network, sharedWith: id } };
}

/** What a container has that lives in the microVM of `host`. */
export function configInside(
  { config: host }: ContainerRecord,
  config: ContainerConfig,
  { cpus }: Pick<CreateRequest, 'cpus'>,
): ContainerConfig {
  const { vcpus, vmMemoryMiB, kernelPath, initramfsPath, accelerator, templateScope } = host;
  return {
    ...config,
    ...{ vcpus, vmMemoryMiB, kernelPath, initramfsPath, accelerator, templateScope },
    // of processors that are there for others too
    ...(cpus !== undefined && cpus < vcpus && { cpuLimit: cpus }),
  };
}

/** @throws HrunError INVALID_ARGUMENT for binds and volumes that are directories of the host */
export function checkInside(config: ContainerConfig, { volumes }: Pick<RuntimeDeps, 'volumes'>): void {
  const isShared = ({ name, driver }: ContainerConfig['namedVolumes'][number]) =>
    (volumes.get(name)?.driver ?? driver) === 'dir';
  if (config.binds.length > 0 || config.namedVolumes.some(isShared)) throw noSharesInside();
}

/** A device for directories of the host is there from the boot of a microVM on, or never. */
export function noSharesInside(): HrunError {
  return new HrunError(
    'INVALID_ARGUMENT',
    'conflicting options: directories of the host and the container type network mode: they would have to be shared with a microVM that runs already',
    { hint: 'use a volume with the driver disk, or hrun cp' },
  );
}
