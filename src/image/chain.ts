import { createHash } from 'node:crypto';
import { type Digest, parseDigest } from '../base/ids.ts';

/**
 * The chain ID after each layer, lowest first (image-spec, config.md, "Layer ChainID"). An image without layers has
 * none; its disk goes by the digest of nothing.
 */
export function chainIds(diffIds: readonly Digest[]): readonly Digest[] {
  const chain: Digest[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    chain.push(below === undefined ? diffId : sha256(`${below} ${diffId}`));
  }
  return chain;
}

/** The chain ID of all layers. */
export function chainIdOf(diffIds: readonly Digest[]): Digest {
  return chainIds(diffIds).at(-1) ?? emptyChain;
}

/** sha256 of nothing. */
const emptyChain = sha256('');

export function sha256(content: string | Uint8Array): Digest {
  return parseDigest(`sha256:${createHash('sha256').update(content).digest('hex')}`);
}
