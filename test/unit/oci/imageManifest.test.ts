import { expect } from 'chai';
import fc from 'fast-check';
import { HrunError } from '../../../src/base/errors.ts';
import { mediaTypes, parseManifest } from '../../../src/oci/imageManifest.ts';

const digest = `sha256:${'a'.repeat(64)}`;
const config = { mediaType: mediaTypes.ociConfig, digest, size: 2 };
const layer = { mediaType: mediaTypes.ociLayerGzip, digest, size: 3 };
const manifest = { schemaVersion: 2, mediaType: mediaTypes.ociManifest, config, layers: [layer] };
const index = { schemaVersion: 2, manifests: [{ ...config, mediaType: mediaTypes.ociManifest }] };

const parse = (document: unknown, claimed?: string) =>
  parseManifest(Buffer.from(JSON.stringify(document)), claimed, 'the manifest');

function refused(document: unknown, claimed?: string): string {
  try {
    parse(document, claimed);
  } catch (error) {
    expect(error).to.be.instanceOf(HrunError).with.property('code', 'IMAGE_INVALID');
    return String(error);
  }
  return expect.fail('it was accepted');
}

describe('parseManifest', () => {
  it('reads OCI and Docker manifests and indexes, unknown fields included', () => {
    expect(parse({ ...manifest, subject: {}, annotations: null })).to.include({ kind: 'manifest' });
    const docker = {
      schemaVersion: 2,
      mediaType: mediaTypes.dockerManifest,
      config: { ...config, mediaType: mediaTypes.dockerConfig },
      layers: [{ ...layer, mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip' }],
    };
    expect(parse(docker, mediaTypes.dockerManifest)).to.include({ mediaType: mediaTypes.dockerManifest });
    expect(parse(index, mediaTypes.dockerIndex)).to.include({
      kind: 'index',
      mediaType: mediaTypes.dockerIndex,
    });
    expect(parse({ ...manifest, layers: [] })).to.deep.include({ layers: [] });
  });

  it('refuses a document that can be read two ways', () => {
    expect(refused({ ...manifest, manifests: [] })).to.include('at once');
    expect(refused(manifest, mediaTypes.ociIndex)).to.include('is announced as');
    expect(refused({ ...manifest, mediaType: mediaTypes.ociIndex })).to.include('media type');
    expect(refused(index, mediaTypes.ociManifest)).to.include('is announced as');
  });

  it('refuses what is no container image', () => {
    expect(refused({ ...manifest, config: { ...config, mediaType: 'application/x' } })).to.include(
      '"application/x"',
    );
    expect(refused({ ...manifest, layers: [{ ...layer, mediaType: 'text/\u001bplain' }] })).to.include(
      'text/?plain',
    );
    expect(refused({ schemaVersion: 1, fsLayers: [] })).to.include('schema version 1');
  });

  it('refuses wrong digests, sizes, types and lengths', () => {
    for (const [field, value] of [
      ['digest', 'sha256:../../../etc/passwd'],
      ['digest', `sha256:${'A'.repeat(64)}`],
      ['digest', `sha512:${'a'.repeat(128)}`],
      ['digest', 7],
      ['size', -1],
      ['size', 1.5],
      ['size', 2 ** 60],
      ['size', '3'],
    ] as const) {
      expect(refused({ ...manifest, layers: [{ ...layer, [field]: value }] })).to.include(
        `layers.0.${field}`,
      );
    }
    refused({ ...manifest, layers: Array.from({ length: 1025 }, () => layer) });
    refused({ ...index, manifests: Array.from({ length: 4097 }, () => index.manifests[0]) });
    refused(null);
    refused([]);
    refused('x');
    refused({});
  });

  it('refuses bytes that are not JSON', () => {
    for (const bytes of [
      Buffer.from('<html>'),
      Buffer.from([0xff, 0xfe]),
      Buffer.alloc(0),
      Buffer.from('['.repeat(1e6)),
    ]) {
      expect(() => parseManifest(bytes, undefined, 'it'))
        .to.throw(HrunError)
        .with.property('code', 'IMAGE_INVALID');
    }
  });

  it('answers any JSON with a manifest or IMAGE_INVALID', () => {
    const mutated = fc.tuple(fc.constantFrom(...Object.keys({ ...manifest, ...index })), fc.jsonValue());
    fc.assert(
      fc.property(fc.constantFrom<object>(manifest, index), mutated, (base, [key, value]) => {
        try {
          parse({ ...base, [key]: value });
        } catch (error) {
          expect(error).to.be.instanceOf(HrunError).with.property('code', 'IMAGE_INVALID');
        }
      }),
      { numRuns: 500 },
    );
  });
});
