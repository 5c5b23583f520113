import { expect } from 'chai';
import { canonicalName, familiarName, parseReference } from '../../src/image/reference.ts';
import { readTar, TarError } from '../../src/image/tarReader.ts';
import { parseImageConfig } from '../../src/oci/imageConfig.ts';
import { mediaTypes, parseManifest } from '../../src/oci/imageManifest.ts';
import { fuzz, unlessRefused } from '../helpers/fuzz.ts';
import { buildImage, tarOf } from '../helpers/images.ts';

const json = (document: unknown) => Buffer.from(JSON.stringify(document));
const digest = `sha256:${'a'.repeat(64)}`;
const maxEntries = 50;

describe('fuzzing what images are made of', () => {
  const image = buildImage({ layers: [{ tar: tarOf([{ name: 'x', content: 'y' }]), compression: 'gzip' }] });
  const blobOf = (of: string) => image.blobs.get(of) ?? Buffer.alloc(0);
  const entry = {
    mediaType: mediaTypes.ociManifest,
    digest,
    size: 2,
    platform: { architecture: 'amd64', os: 'linux', variant: 'v2' },
  };

  fuzz({
    name: 'manifest',
    seeds: [blobOf(image.manifest.digest), json({ schemaVersion: 2, manifests: [entry, entry] })],
    check(bytes) {
      const parsed = unlessRefused(['IMAGE_INVALID', 'PLATFORM_MISMATCH'], () =>
        parseManifest(bytes, undefined, 'the manifest'),
      );
      if (parsed === undefined) return;
      const blobs = parsed.kind === 'index' ? parsed.manifests : [parsed.config, ...parsed.layers];
      for (const blob of blobs) {
        expect(blob.digest).to.match(/^sha256:[0-9a-f]{64}$/);
        expect(Number.isSafeInteger(blob.size) && blob.size >= 0).to.equal(true);
      }
    },
  });

  fuzz({
    name: 'imageConfig',
    seeds: [
      blobOf(image.config.digest),
      json({
        architecture: 'amd64',
        os: 'linux',
        config: {
          Env: ['A=b'],
          Cmd: ['sh'],
          Entrypoint: ['/e'],
          WorkingDir: '/w',
          User: 'a:b',
          Labels: { a: 'b' },
          ExposedPorts: { '80/tcp': {} },
          Volumes: { '/v': {} },
          StopSignal: 'SIGTERM',
        },
        rootfs: { type: 'layers', diff_ids: [digest] },
        history: [{ created_by: 'x', empty_layer: true }],
      }),
    ],
    check(bytes) {
      const parsed = unlessRefused(['IMAGE_INVALID', 'PLATFORM_MISMATCH'], () =>
        parseImageConfig(bytes, 'the config'),
      );
      for (const diffId of parsed?.diffIds ?? []) expect(diffId).to.match(/^sha256:[0-9a-f]{64}$/);
    },
  });

  fuzz({
    name: 'reference',
    seeds: ['busybox', 'localhost:5000/a/b_c:v1.2', `[::1]:5000/x@${digest}`, 'a.b/c-d/e:latest'].map(
      (text) => Buffer.from(text),
    ),
    check(bytes) {
      const reference = unlessRefused(['INVALID_ARGUMENT'], () => parseReference(bytes.toString('utf8')));
      if (reference === undefined) return;
      // one image has one name, and no part of it leads anywhere else
      expect(parseReference(canonicalName(reference))).to.deep.equal(reference);
      expect(canonicalName(parseReference(familiarName(reference)))).to.equal(canonicalName(reference));
      expect(reference.path).not.to.match(/\.\.|^\/|\/$|[\0\s]/);
    },
  });

  fuzz({
    name: 'tar',
    seeds: [
      tarOf([
        { name: 'index.json', content: '{}' },
        { name: `${'long/'.repeat(40)}name`, content: 'x'.repeat(700) },
        { name: 'blobs/sha256/x', content: Buffer.alloc(1500, 7) },
      ]),
    ],
    async check(bytes) {
      let entries = 0;
      let read = 0;
      try {
        for await (const { body, size, name, target } of readTar(inPieces(bytes), { maxEntries })) {
          entries += 1;
          expect(name.includes('\0') || target.includes('\0')).to.equal(false);
          let got = 0;
          for await (const piece of body) got += piece.length;
          expect(got).to.equal(size);
          read += got;
        }
      } catch (error) {
        if (!(error instanceof TarError)) throw error;
      }
      expect(entries).to.be.at.most(maxEntries);
      expect(read).to.be.at.most(bytes.length);
    },
  });
});

async function* inPieces(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += 700) yield bytes.subarray(at, at + 700);
}
