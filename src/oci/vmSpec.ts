import { HrunError, messageOf } from '../base/errors.ts';
import { parseSize } from '../base/units.ts';
import type { RuntimeSpec } from './runtimeSpec.ts';
import { invalidField } from './specFailure.ts';

/** What the host's cache of a share's files does: virtiofsd's modes. */
const shareCaches = ['auto', 'none', 'always'] as const;
export type ShareCache = (typeof shareCaches)[number];

/** What a bundle says of its microVM; whatever is missing is for the host to decide. */
export interface HostVm {
  readonly vcpus?: number;
  readonly memoryBytes?: number;
  /** Files of the host, which must allow them. */
  readonly kernelPath?: string;
  readonly initramfsPath?: string;
  readonly kernelParameters?: readonly string[];
  readonly shareCache?: ShareCache;
}

const mostParameterBytes = 1024;

/**
 * The `vm` section (runtime-spec config-vm.md) and the annotations `org.hrun.*`, which managers pass on where they know no such
 * section, and which count more. An annotation of another name means nothing here. Pure.
 * @throws HrunError SPEC_INVALID naming the field
 */
export function hostVmOf({ vm, annotations }: Pick<RuntimeSpec, 'vm' | 'annotations'>): HostVm {
  const { kernel, hwConfig } = vm ?? {};
  const said = (name: string) => annotations[`org.hrun.${name}`];
  const found = {
    vcpus: vcpusOf(said('vcpus')) ?? hwConfig?.vcpus,
    memoryBytes: memoryOf(said('memory')) ?? bytesOf(hwConfig?.memory),
    kernelPath:
      pathOf('annotations.org.hrun.kernel', said('kernel')) ?? pathOf('vm.kernel.path', kernel?.path),
    initramfsPath: pathOf('vm.kernel.initrd', kernel?.initrd),
    kernelParameters: parametersOf(said('kernel-parameters')?.split(' ') ?? kernel?.parameters ?? []),
    shareCache: cacheOf(said('share-cache')),
  };
  if (found.vcpus === 0) throw invalidField('vm.hwConfig.vcpus', 'a microVM has one at least');
  // Of what is not said there is no member.
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined));
}

function vcpusOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text);
  throw invalidField('annotations.org.hrun.vcpus', `${JSON.stringify(text)} is no number of CPUs`);
}

function memoryOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  try {
    return parseSize(text, 'a size');
  } catch (error) {
    if (!(error instanceof HrunError)) throw error;
    throw invalidField('annotations.org.hrun.memory', messageOf(error));
  }
}

function bytesOf(memory: bigint | undefined): number | undefined {
  if (memory === undefined || memory === 0n) return undefined;
  if (memory <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(memory);
  throw invalidField('vm.hwConfig.memory', 'no machine has so much');
}

function pathOf(field: string, path: string | undefined): string | undefined {
  if (path === undefined || path === '') return undefined;
  if (path.startsWith('/') && !path.includes('\0')) return path;
  throw invalidField(field, `${JSON.stringify(path)} is no absolute path`);
}

function parametersOf(parameters: readonly string[]): readonly string[] | undefined {
  const words = parameters.filter((word) => word !== '');
  if (words.length === 0) return undefined;
  const field = 'vm.kernel.parameters';
  const odd = words.find((word) => !/^[\x21-\x7e]+$/.test(word));
  if (odd !== undefined) throw invalidField(field, `${JSON.stringify(odd)} is not one printable word`);
  if (words.join(' ').length > mostParameterBytes) throw invalidField(field, 'they are too long');
  return words;
}

function cacheOf(text: string | undefined): ShareCache | undefined {
  if (text === undefined) return undefined;
  const known = shareCaches.find((name) => name === text);
  if (known !== undefined) return known;
  const modes = shareCaches.join(', ');
  throw invalidField('annotations.org.hrun.share-cache', `${JSON.stringify(text)} is none of ${modes}`);
}
