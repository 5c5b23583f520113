import { availableParallelism, totalmem } from 'node:os';
import { parseContainerId } from '../../base/ids.ts';
import { invalidField, unsupportedField } from '../../oci/specFailure.ts';
import type { HostVm, ShareCache } from '../../oci/vmSpec.ts';
import type { VmShape } from '../../vmm/microVm.ts';
import { requireKernel } from '../kernelFile.ts';
import { defaultShareCache } from '../shareServer.ts';
import type { Bundle } from './bundle.ts';
import { vmSizeFor } from './hostLimits.ts';
import type { OciDeps } from './ociDeps.ts';
import type { OciRecord } from './ociRecord.ts';

const mebibyte = 1024 * 1024;

export interface BundleVm {
  /** Whose microVM it joins: what the bundle says of a microVM does not count then. */
  readonly owner: OciRecord | undefined;
  readonly shape: VmShape;
  readonly shareCache: ShareCache;
}

/**
 * What microVM a bundle gets: what it says itself, then what its limits ask for, then the configuration.
 * @throws HrunError SPEC_INVALID, SPEC_UNSUPPORTED naming the field; INVALID_ARGUMENT for a file that is no kernel
 */
export async function bundleVm(
  { spec, plan }: Bundle,
  joined: OciRecord | undefined,
  deps: Pick<OciDeps, 'config' | 'defaults' | 'store' | 'accelerator'>,
  signal: AbortSignal,
): Promise<BundleVm> {
  const { config, defaults, store } = deps;
  const owner = joined && store.get(parseContainerId(joined.sandbox));
  const wanted = owner === undefined ? plan.vm : {};
  await checkVm(wanted, config.bundleKernels);
  const { memoryMiB, vcpus } =
    owner === undefined
      ? vmSizeFor(spec.linux?.resources, config, availableParallelism())
      : { memoryMiB: owner.vmMemoryMiB, vcpus: owner.vcpus };
  const shape: VmShape = {
    kernelPath: wanted.kernelPath ?? defaults.kernelPath,
    initramfsPath: wanted.initramfsPath ?? defaults.initramfsPath,
    accelerator: owner?.accelerator ?? (await deps.accelerator(config.accelerator, signal)),
    vcpus: wanted.vcpus ?? vcpus,
    memoryMiB: wanted.memoryBytes === undefined ? memoryMiB : Math.ceil(wanted.memoryBytes / mebibyte),
    transport: 'serial',
    kernelParameters: wanted.kernelParameters ?? [],
  };
  return { owner, shape, shareCache: wanted.shareCache ?? defaultShareCache };
}

/** A tenant who may name any file as a kernel, or as an initramfs, reads that file of the host. */
async function checkVm(
  { vcpus, memoryBytes, kernelPath, initramfsPath, kernelParameters }: HostVm,
  allowed: readonly string[],
): Promise<void> {
  const hostCpus = availableParallelism();
  if (vcpus !== undefined && vcpus > hostCpus) {
    throw invalidField('vm.hwConfig.vcpus', `${vcpus} are more than the ${hostCpus} of this host`);
  }
  if (memoryBytes !== undefined && memoryBytes > totalmem()) {
    throw invalidField('vm.hwConfig.memory', `${memoryBytes} bytes are more than this host has`);
  }
  const hint = 'bundleKernels in the configuration lists the files that bundles may name';
  for (const [field, path] of [
    ['vm.kernel.path', kernelPath],
    ['vm.kernel.initrd', initramfsPath],
  ] as const) {
    if (path !== undefined && !allowed.includes(path)) {
      throw unsupportedField(field, `the configuration of this host does not allow ${path}`, hint);
    }
  }
  if (kernelParameters !== undefined && kernelPath === undefined) {
    throw unsupportedField('vm.kernel.parameters', 'only a kernel that the bundle names has any', hint);
  }
  if (kernelPath !== undefined) await requireKernel(kernelPath);
}
