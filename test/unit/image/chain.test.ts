import { expect } from 'chai';
import { parseDigest } from '../../../src/base/ids.ts';
import { chainIdOf, chainIds } from '../../../src/image/chain.ts';
import { digestOf } from '../../helpers/images.ts';

const [a, b, c] = ['a', 'b', 'c'].map((letter) => parseDigest(`sha256:${letter.repeat(64)}`));

describe('chain ids', () => {
  it('are made as the image-spec says', () => {
    if (a === undefined || b === undefined || c === undefined) throw new Error('no digests');
    const ab = digestOf(`${a} ${b}`);
    expect(chainIds([a, b, c])).to.deep.equal([a, ab, digestOf(`${ab} ${c}`)]);
    expect(chainIdOf([a, b])).to.equal(ab);
  });

  it('of no layers is the digest of nothing', () => {
    expect(chainIds([])).to.deep.equal([]);
    expect(chainIdOf([])).to.equal(digestOf(''));
  });
});
