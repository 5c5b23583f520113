import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect } from 'chai';
import { HrunError } from '../../../src/base/errors.ts';
import { applyChanges } from '../../../src/image/imageChanges.ts';
import { noProgress } from '../../../src/image/progress.ts';
import { digestOf, streamOf, tarOf } from '../../helpers/images.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';
import { filesOf, never, openTestImages, recordingUnpacker } from '../../helpers/testImages.ts';

const root = tarOf([
  { name: 'bin/', type: 'Directory' },
  { name: 'bin/sh', content: 'x', mode: 0o755 },
]);

function requestOf(
  bytes: Uint8Array,
  changes: readonly string[] = [],
  reference: string | undefined = 'mine',
) {
  return {
    source: { name: 'root.tar', bytes: streamOf(bytes, 100) },
    reference,
    message: undefined,
    changes,
    onBytes: () => {},
  };
}

describe('importing a root filesystem', () => {
  it('makes an image of one layer, however the tar is compressed', async () => {
    for (const [pack, type] of [
      [(bytes: Buffer) => bytes, 'tar'],
      [gzipSync, 'tar+gzip'],
      [zstdCompressSync, 'tar+zstd'],
    ] as const) {
      await using directory = await temporaryDirectory();
      const images = await openTestImages(directory.path, { nowMs: () => Date.UTC(2025, 0, 2) });
      const image = await images.import(requestOf(pack(root), ['CMD ["sh"]', 'ENV A=b']), never);
      expect(image.names).to.deep.equal(['docker.io/library/mine:latest']);
      expect(image.config.diffIds).to.deep.equal([digestOf(root)]);
      expect(image.layers[0]?.mediaType).to.match(new RegExp(`${type.replace('+', '\\+')}$`));
      expect(image.config.created).to.equal('2025-01-02T00:00:00.000Z');
      expect(image.config.process).to.deep.include({ cmd: ['sh'], env: ['A=b'] });
      expect(image.config.history[0]?.comment).to.equal('Imported from root.tar');
      const unpacker = recordingUnpacker();
      await images.disks.ensure(image, { unpacker, progress: noProgress }, never);
      expect(unpacker.requests[0]?.tars).to.deep.equal([root]);
    }
  });

  it('without a name is found by id', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const image = await images.import({ ...requestOf(root), reference: undefined }, never);
    expect(image.names).to.deep.equal([]);
    expect(images.store.get(image.id.slice(7, 19)).id).to.equal(image.id);
  });

  it('refuses what is no tar, and leaves nothing behind', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    for (const bytes of [
      Buffer.alloc(0),
      Buffer.from('#!/bin/sh'),
      Buffer.alloc(5000, 'x'),
      gzipSync(Buffer.alloc(5000, 'x')),
      gzipSync(root).subarray(0, 40),
      Buffer.from([0x42, 0x5a, 0x68, 0x39, 0x31, 0x41]),
    ]) {
      const error = await images.import(requestOf(bytes), never).catch((reason: unknown) => reason);
      expect(error).to.be.instanceOf(HrunError).with.property('code', 'IMAGE_INVALID');
      expect(String(error)).to.include('root.tar is not the tar of a root filesystem: ');
      expect(await filesOf(directory.path)).to.deep.equal([]);
    }
    const named = await images.import(requestOf(root, [], 'UPPER'), never).catch((reason: unknown) => reason);
    expect(named).to.be.instanceOf(HrunError).with.property('code', 'INVALID_ARGUMENT');
  });
});

describe('changes to an imported image', () => {
  it('are read as lines of a Dockerfile', () => {
    const lines = [
      'cmd echo hi',
      'ENTRYPOINT ["/entry", "a b"]',
      'ENV A=1 B="two words" C=it\\ is',
      'ENV OLD form of it',
      'ENV A=2',
      'USER 1000:1000',
      'WORKDIR /srv',
      'VOLUME /a "/b c"',
      'VOLUME ["/d"]',
      'EXPOSE 80 53/udp',
      "LABEL k='v w'",
      'STOPSIGNAL SIGINT',
    ];
    expect(applyChanges({}, lines)).to.deep.equal({
      Cmd: ['/bin/sh', '-c', 'echo hi'],
      Entrypoint: ['/entry', 'a b'],
      Env: ['B=two words', 'C=it is', 'OLD=form of it', 'A=2'],
      User: '1000:1000',
      WorkingDir: '/srv',
      Volumes: { '/a': {}, '/b c': {}, '/d': {} },
      ExposedPorts: { '80/tcp': {}, '53/udp': {} },
      Labels: { k: 'v w' },
      StopSignal: 'SIGINT',
    });
  });

  it('that are not understood are named', () => {
    for (const line of [
      '',
      'CMD',
      'RUN x',
      'ENV',
      'ENV A',
      'ENV =x',
      'EXPOSE x',
      'LABEL a=b c',
      'constructor x',
    ]) {
      expect(() => applyChanges({}, [line]), line)
        .to.throw(HrunError)
        .with.property('code', 'INVALID_ARGUMENT');
    }
  });
});
