import { randomBytes } from 'node:crypto';
import { HrunError } from './errors.ts';

declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

/** 64 lower-case hex digits, as Docker's. */
export type ContainerId = Branded<'ContainerId'>;
/** 32 lower-case hex digits. */
export type VmId = Branded<'VmId'>;
/** `sha256:` and 64 lower-case hex digits (OCI image-spec, descriptor.md). */
export type Digest = Branded<'Digest'>;

export function newContainerId(): ContainerId {
  return randomBytes(32).toString('hex') as ContainerId;
}

export function newVmId(): VmId {
  return randomBytes(16).toString('hex') as VmId;
}

/** @throws HrunError INVALID_ARGUMENT when `text` is no sha256 digest. */
export function parseDigest(text: string): Digest {
  if (!/^sha256:[0-9a-f]{64}$/.test(text)) {
    throw new HrunError('INVALID_ARGUMENT', `"${text}" is not a sha256 digest`);
  }
  return text as Digest;
}

export function isContainerId(text: string): text is ContainerId {
  return /^[0-9a-f]{64}$/.test(text);
}

/** @throws HrunError INVALID_ARGUMENT when `text` is no full container id. */
export function parseContainerId(text: string): ContainerId {
  if (!isContainerId(text)) throw new HrunError('INVALID_ARGUMENT', `"${text}" is not a container id`);
  return text;
}

/** @throws HrunError INVALID_ARGUMENT when `text` is no VM id. */
export function parseVmId(text: string): VmId {
  if (!/^[0-9a-f]{32}$/.test(text)) throw new HrunError('INVALID_ARGUMENT', `"${text}" is not a VM id`);
  return text as VmId;
}
