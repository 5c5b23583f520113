import { expect } from 'chai';
import { HrunError } from '../../../src/base/errors.ts';
import { parseDigest } from '../../../src/base/ids.ts';
import { choosePlatform, type Platform } from '../../../src/image/platform.ts';

const amd64: Platform = { os: 'linux', architecture: 'amd64', variant: 'v1' };
const arm64: Platform = { os: 'linux', architecture: 'arm64', variant: 'v8' };

function indexOf(...platforms: readonly (string | undefined)[]) {
  const manifests = platforms.map((text, number) => {
    const [os = '', architecture = '', variant] = text?.split('/') ?? [];
    return {
      mediaType: 'x',
      digest: parseDigest(`sha256:${String(number).repeat(64)}`),
      size: number,
      platform: text === undefined ? undefined : { os, architecture, variant },
    };
  });
  return { kind: 'index' as const, mediaType: 'x', manifests };
}

/** The position of the entry chosen. */
const choose = (wanted: Platform, ...platforms: readonly (string | undefined)[]) =>
  choosePlatform(indexOf(...platforms), wanted, 'image x').size;

describe('choosePlatform', () => {
  it('takes the entry of the architecture', () => {
    expect(choose(amd64, 'linux/arm64/v8', 'linux/amd64', 'windows/amd64')).to.equal(1);
    expect(choose(arm64, 'linux/amd64', 'linux/arm64')).to.equal(1);
    expect(choose(arm64, 'linux/arm/v7', 'linux/arm64/v8')).to.equal(1);
  });

  it('takes the best variant that runs here, the first among equals', () => {
    expect(choose(amd64, 'linux/amd64/v3', 'linux/amd64/v1', 'linux/amd64')).to.equal(1);
    expect(choose({ ...amd64, variant: 'v3' }, 'linux/amd64', 'linux/amd64/v4', 'linux/amd64/v2')).to.equal(
      2,
    );
    expect(choose(arm64, 'linux/arm64/v9', 'linux/arm64')).to.equal(1);
  });

  it('takes a single entry without a platform, but guesses among no more', () => {
    expect(choose(amd64, undefined)).to.equal(0);
    expect(() => choose(amd64, undefined, undefined)).to.throw(HrunError);
  });

  it('names what the index has instead, without attestations and control characters', () => {
    try {
      choose(
        amd64,
        'linux/arm64/v8',
        'unknown/unknown',
        'linux/s3\u001b90x',
        'linux/arm64/v8',
        'linux/amd64/vx',
      );
      expect.fail('chose something');
    } catch (error) {
      expect(error).to.be.instanceOf(HrunError).with.property('code', 'PLATFORM_MISMATCH');
      expect(String(error)).to.include('it has linux/arm64/v8, linux/s3?90x, linux/amd64/vx');
    }
  });
});
