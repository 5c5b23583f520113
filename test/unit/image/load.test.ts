import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect } from 'chai';
import { HrunError } from '../../../src/base/errors.ts';
import type { Image } from '../../../src/image/imageStore.ts';
import type { Images } from '../../../src/image/images.ts';
import { noProgress } from '../../../src/image/progress.ts';
import { saveImages } from '../../../src/image/save.ts';
import {
  buildImage,
  buildIndex,
  layoutFiles,
  streamOf,
  type TestEntry,
  type TestImage,
  tarOf,
  writeLayout,
} from '../../helpers/images.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';
import { filesOf, never, openTestImages } from '../../helpers/testImages.ts';

const lower = tarOf([
  { name: 'etc/', type: 'Directory' },
  { name: 'etc/hostname', content: 'x\n' },
]);
const image = buildImage({
  layers: [
    { tar: lower, compression: 'gzip' },
    { tar: tarOf([{ name: 'b', content: 'b' }]), compression: 'zstd' },
  ],
  config: { Cmd: ['sh'], Env: ['A=b'] },
});

const entriesOf = (files: ReadonlyMap<string, Uint8Array>): TestEntry[] =>
  [...files].map(([name, content]) => ({ name, content }));

/** What `docker save` of the old days writes. */
function dockerEntries(of: TestImage, overrides: { readonly manifest?: unknown } = {}): TestEntry[] {
  const configName = `${of.config.digest.slice(7)}.json`;
  const layers = of.layers.map(({ digest }, index) => ({ name: `l${index}/layer.tar`, digest }));
  const manifest = overrides.manifest ?? [
    { Config: configName, RepoTags: ['team/app:v1', 'app:latest'], Layers: layers.map(({ name }) => name) },
  ];
  return [
    ...layers.map(({ name, digest }) => ({ name, content: of.blobs.get(digest) ?? '' })),
    { name: configName, content: of.blobs.get(of.config.digest) ?? '' },
    { name: 'manifest.json', content: JSON.stringify(manifest) },
    { name: 'repositories', content: '{}' },
  ];
}

async function load(images: Images, bytes: Uint8Array, pieceBytes?: number): Promise<readonly Image[]> {
  const source = { kind: 'archive' as const, name: 'test.tar', bytes: streamOf(bytes, pieceBytes) };
  return await images.load({ source, progress: noProgress }, never);
}

async function failure(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => expect.fail('it succeeded'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof HrunError)) throw error;
  return `${error.code}: ${error.message}`;
}

describe('loading an OCI layout', () => {
  const files = layoutFiles([{ image, name: 'host.example/team/app:v1' }]);

  it('from a tar stores the image under its name and nothing besides', async () => {
    for (const [pack, piece] of [
      [(bytes: Buffer) => bytes, 65_536],
      [(bytes: Buffer) => bytes, 7],
      [gzipSync, 1000],
      [zstdCompressSync, 1],
    ] as const) {
      await using directory = await temporaryDirectory();
      const images = await openTestImages(directory.path);
      const extra = [
        { name: 'README', content: 'not ours' },
        { name: 'junk.json', content: '{}' },
      ];
      const [loaded, ...more] = await load(images, pack(tarOf([...extra, ...entriesOf(files)])), piece);
      expect(more).to.deep.equal([]);
      expect(loaded?.id).to.equal(image.config.digest);
      expect(loaded?.names).to.deep.equal(['host.example/team/app:v1']);
      expect(loaded?.config.process.env).to.deep.equal(['A=b']);
      expect(await filesOf(directory.path)).to.have.lengthOf(image.blobs.size);
    }
  });

  it('from a directory reads only what the image needs', async () => {
    await using directory = await temporaryDirectory();
    const layout = join(directory.path, 'layout');
    await writeLayout(layout, files);
    const read: string[] = [];
    const reader = {
      name: layout,
      readFile: async (path: string) => {
        read.push(path);
        return await readFile(join(layout, path));
      },
      openStream: (path: string) => {
        read.push(path);
        return streamOf(files.get(path) ?? new Uint8Array());
      },
    };
    const images = await openTestImages(directory.path);
    const source = { kind: 'layout' as const, reader };
    const [loaded] = await images.load({ source, progress: noProgress }, never);
    expect(loaded?.id).to.equal(image.config.digest);
    expect(read.sort()).to.deep.equal([...files.keys()].sort());
    read.length = 0;
    await images.load({ source, progress: noProgress }, never);
    expect(read.sort()).to.deep.equal(['index.json', 'oci-layout']);
  });

  it('takes the platform of an index and skips images for others', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const other = buildImage({ layers: [], architecture: 's390x' });
    const { bytes, index } = buildIndex([other, image]);
    const nested = new Map(files).set(`blobs/${index.digest.replace(':', '/')}`, bytes);
    const entry = { ...index, annotations: { 'org.opencontainers.image.ref.name': 'a/b:multi' } };
    nested.set('index.json', Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [entry] })));
    const [loaded] = await load(images, tarOf(entriesOf(nested)));
    expect(loaded?.names).to.deep.equal(['docker.io/a/b:multi']);

    const both = layoutFiles([
      { image: other, name: 'x:other' },
      { image, name: 'x:mine' },
    ]);
    const some = await load(images, tarOf(entriesOf(both)));
    expect(some.flatMap(({ names }) => names)).to.include('docker.io/library/x:mine');
    const none = tarOf(entriesOf(layoutFiles([{ image: other, name: 'x:other' }])));
    expect(await failure(load(images, none))).to.match(/^PLATFORM_MISMATCH: .*x:other/);
  });

  it('does not take a bare tag for a name', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const [loaded] = await load(images, tarOf(entriesOf(layoutFiles([{ image, name: 'latest' }]))));
    expect(loaded?.names).to.deep.equal([]);
  });

  it('refuses what is missing, cut off or changed, and leaves nothing behind', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const layer = `blobs/${image.layers[0]?.digest.replace(':', '/')}`;
    const changed = new Map(files).set(layer, Buffer.from('changed'));
    const flipped = Buffer.from(files.get(layer) ?? []);
    flipped[20] = (flipped[20] ?? 0) ^ 1;
    const without = new Map(files);
    without.delete(layer);
    const whole = tarOf(entriesOf(files));
    for (const [bytes, message] of [
      [tarOf(entriesOf(changed)), /^DIGEST_MISMATCH: .* is 7 bytes long instead of/],
      [tarOf(entriesOf(new Map(files).set(layer, flipped))), /^DIGEST_MISMATCH: .* has digest/],
      [tarOf(entriesOf(without)), /^IMAGE_INVALID: test.tar has no blobs/],
      [whole.subarray(0, 5000), /^IMAGE_INVALID: test.tar is not an image archive: it is cut off$/],
      [gzipSync(whole).subarray(0, 500), /^IMAGE_INVALID: .*gzip stream cannot be read: it is cut off$/],
      [Buffer.concat([whole.subarray(0, 512), Buffer.alloc(512, 'x')]), /^IMAGE_INVALID: /],
      [Buffer.from('BZh91AY'), /^IMAGE_INVALID: .*bzip2 compression is not supported$/],
      [Buffer.from('hello'), /^IMAGE_INVALID: .*cut off/],
      [Buffer.alloc(0), /^IMAGE_INVALID: .*empty/],
      [Buffer.alloc(10_240), /^IMAGE_INVALID: test.tar has neither/],
      [Buffer.alloc(2048, 'x'), /^IMAGE_INVALID: .*header/],
      [tarOf([{ name: 'etc/passwd', content: 'root' }]), /^IMAGE_INVALID: test.tar has neither/],
      [tarOf(entriesOf(new Map(files).set('oci-layout', Buffer.from('{}')))), /^IMAGE_INVALID: oci-layout/],
      [tarOf(entriesOf(new Map(files).set('index.json', Buffer.from('{')))), /^IMAGE_INVALID: index.json/],
      [
        tarOf(entriesOf(new Map(files).set('index.json', Buffer.from('{"schemaVersion":2,"manifests":[]}')))),
        /no image/,
      ],
    ] as const) {
      expect(await failure(load(images, bytes))).to.match(message);
      expect(await filesOf(directory.path), String(message)).to.deep.equal([]);
      expect(images.store.list()).to.deep.equal([]);
    }
  });

  it('stops waiting for a source that stalls when told to', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const stop = new AbortController();
    async function* stalled() {
      yield tarOf([{ name: 'index.json', content: 'x'.repeat(5000) }]).subarray(0, 1024);
      stop.abort('enough');
      await new Promise(() => {});
    }
    const source = { kind: 'archive' as const, name: 't', bytes: stalled() };
    const reason = await images
      .load({ source, progress: noProgress }, stop.signal)
      .catch((error: unknown) => error);
    expect(reason).to.equal('enough');
    expect(await filesOf(directory.path)).to.deep.equal([]);
  });
});

describe('loading a docker-archive', () => {
  it('stores the image under all its names', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const [loaded] = await load(images, tarOf(dockerEntries(image)));
    expect(loaded?.names).to.deep.equal(['docker.io/library/app:latest', 'docker.io/team/app:v1']);
    expect(loaded?.layers.map(({ mediaType }) => mediaType.split('.').at(-1))).to.deep.equal([
      'tar+gzip',
      'tar+zstd',
    ]);
    // The config, the layers and the manifest that hrun wrote.
    expect(await filesOf(directory.path)).to.have.lengthOf(4);
  });

  it('follows links between layers inside the archive, hard and symbolic', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const twice = buildImage({
      layers: [
        { tar: lower, compression: 'none' },
        { tar: lower, compression: 'none' },
      ],
    });
    for (const link of [
      { name: 'l1/layer.tar', type: 'SymbolicLink', target: '../l0/layer.tar' },
      { name: 'l1/layer.tar', type: 'Link', target: 'l0/layer.tar' },
      { name: './l1/layer.tar', type: 'Link', target: './l0/layer.tar' },
    ] as const) {
      const entries = dockerEntries(twice).map((entry) => (entry.name === 'l1/layer.tar' ? link : entry));
      const [loaded] = await load(images, tarOf(entries));
      expect(loaded?.layers.map(({ digest }) => digest)).to.deep.equal(twice.diffIds);
    }
  });

  it('follows no link out of the archive, nor in circles', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    for (const target of [
      '/etc/passwd',
      '../../../../etc/passwd',
      'layer.tar',
      '../l1/layer.tar',
      '',
      '../nowhere.tar',
    ]) {
      const link = { name: 'l1/layer.tar', type: 'SymbolicLink' as const, target: target || 'x' };
      const entries = dockerEntries(image).map((entry) => (entry.name === 'l1/layer.tar' ? link : entry));
      expect(await failure(load(images, tarOf(entries)))).to.equal(
        'IMAGE_INVALID: test.tar has no l1/layer.tar',
      );
    }
    expect(await filesOf(directory.path)).to.deep.equal([]);
  });

  it('uses names as keys only', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const evil = ['../../evil.json', '/tmp/evil.json', 'a/../../evil.tar', `${'x/'.repeat(200)}evil.json`];
    for (const name of evil) {
      const entries = dockerEntries(image, { manifest: [{ Config: name, RepoTags: [], Layers: [] }] });
      const message = await failure(load(images, tarOf([...entries, { name, content: '{}' }])));
      expect(message).to.match(/^IMAGE_INVALID: test.tar has no /);
    }
    expect(await filesOf(directory.path)).to.deep.equal([]);
  });

  it('refuses manifests that lie', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const config = `${image.config.digest.slice(7)}.json`;
    for (const [manifest, message] of [
      [{}, /manifest.json in test.tar is invalid/],
      [[], /has no image/],
      [[{ Config: 7 }], /0.Config/],
      [[{ Config: 'gone.json' }], /has no gone.json/],
      [[{ Config: 'l0/layer.tar' }], /config of .* is not valid JSON/],
      [[{ Config: config, Layers: ['l0/layer.tar'] }], /has 1 layers, but its config tells of 2/],
      [[{ Config: config, Layers: ['l0/layer.tar', 'l1/layer.tar'], RepoTags: ['UPPER'] }], /lower case/],
    ] as const) {
      expect(await failure(load(images, tarOf(dockerEntries(image, { manifest }))))).to.match(message);
    }
    const foreign = buildImage({ layers: [], architecture: 's390x' });
    expect(await failure(load(images, tarOf(dockerEntries(foreign))))).to.include('PLATFORM_MISMATCH');
  });

  it('gives up on an archive with too many entries', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const one = tarOf([{ name: 'usr/file' }]).subarray(0, 512);
    async function* many() {
      for (let count = 0; count < 40; count += 1)
        yield Buffer.concat(Array.from({ length: 1000 }, () => one));
    }
    const source = { kind: 'archive' as const, name: 'rootfs.tar', bytes: many() };
    expect(await failure(images.load({ source, progress: noProgress }, never))).to.match(
      /^IMAGE_INVALID: rootfs.tar is not an image archive: it has more than 20000 entries$/,
    );
  });

  it('reads names of any length and refuses endless metadata', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const long = { name: `${'long/'.repeat(50)}name`, content: 'x' };
    expect(await load(images, tarOf([long, ...dockerEntries(image)]))).to.have.lengthOf(1);
    const endless = tarOf([{ name: 'x', content: 'y'.repeat(100) }]);
    endless.write('L', 156, 'latin1');
    endless.write('77777777777', 124, 'latin1');
    endless.fill(' ', 148, 156);
    const sum = endless.subarray(0, 512).reduce((total, byte) => total + byte, 0);
    endless.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    expect(await failure(load(images, endless))).to.include('an extended header is too long');
  });
});

describe('saving images', () => {
  it('writes an archive that loads again as the same images, by either manifest', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const second = buildImage({ layers: [{ tar: lower, compression: 'gzip' }], config: { Cmd: ['second'] } });
    await load(
      images,
      tarOf(entriesOf(layoutFiles([{ image, name: 'a:1' }, { image, name: 'b:2' }, { image: second }]))),
    );
    const id = second.config.digest.slice(7, 30);
    const chunks: Uint8Array[] = [];
    for await (const chunk of saveImages(images.store, ['a:1', id, 'b:2'], never)) chunks.push(chunk);
    const archive = Buffer.concat(chunks);
    expect(archive.length % 512).to.equal(0);

    await using other = await temporaryDirectory();
    const elsewhere = await openTestImages(other.path);
    await load(elsewhere, archive);
    const facts = (of: Images) =>
      of.store.list().map(({ id: imageId, manifestDigest, names }) => ({ imageId, manifestDigest, names }));
    expect(facts(elsewhere)).to.have.deep.members(facts(images));

    await using third = await temporaryDirectory();
    const docker = await openTestImages(third.path);
    const hidden = Buffer.from(archive.toString('latin1').replace('index.json', 'index.jsoX'), 'latin1');
    const sum = (block: Buffer) =>
      block.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 32 : byte), 0);
    const at = hidden.indexOf('index.jsoX');
    hidden.write(
      `${sum(hidden.subarray(at, at + 512))
        .toString(8)
        .padStart(6, '0')}\0 `,
      at + 148,
      'latin1',
    );
    await load(docker, hidden);
    expect(docker.store.list().map(({ names }) => names)).to.have.deep.members(
      images.store.list().map(({ names }) => names),
    );
  });

  it('refuses an unknown image before the first byte', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    expect(await failure(saveImages(images.store, ['gone'], never).next())).to.include('IMAGE_UNKNOWN');
  });
});

describe('a built-in image', () => {
  it('is loaded when it is first asked for, once, by any spelling', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'busybox.tar');
    const name = 'docker.io/library/busybox:latest';
    await writeFile(path, tarOf(entriesOf(layoutFiles([{ image, name }]))));
    const images = await openTestImages(directory.path, { builtIn: new Map([[name, path]]) });
    expect(images.store.find('busybox')).to.equal(undefined);
    const found = await Promise.all(
      ['busybox', 'busybox:latest', name].map((text) => images.find(text, never)),
    );
    expect(found.map((one) => one?.id)).to.deep.equal([
      image.config.digest,
      image.config.digest,
      image.config.digest,
    ]);
    expect(await images.find('busybox:1', never)).to.equal(undefined);
    await images.store.remove('busybox', { force: false }, never);
    expect((await images.find('busybox', never))?.names).to.deep.equal([name]);
  });

  it('that is damaged says so', async () => {
    await using directory = await temporaryDirectory();
    const name = 'docker.io/library/busybox:latest';
    const images = await openTestImages(directory.path, {
      builtIn: new Map([[name, '/nonexistent/busybox.tar']]),
    });
    expect(String(await images.find('busybox', never).catch((error: unknown) => error))).to.include(
      '/nonexistent',
    );
  });
});
