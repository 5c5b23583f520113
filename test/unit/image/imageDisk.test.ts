import { execFile } from 'node:child_process';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect } from 'chai';
import { HrunError } from '../../../src/base/errors.ts';
import type { UnpackRequest } from '../../../src/image/imageDisk.ts';
import type { Images, ImagesDeps } from '../../../src/image/images.ts';
import { noProgress } from '../../../src/image/progress.ts';
import {
  buildImage,
  digestOf,
  layoutFiles,
  streamOf,
  type TestImageSpec,
  tarOf,
} from '../../helpers/images.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';
import { filesOf, never, openTestImages, recordingUnpacker } from '../../helpers/testImages.ts';

const run = promisify(execFile);
const base = tarOf([{ name: 'base', content: 'base' }]);
const top = tarOf([{ name: 'top', content: 'x'.repeat(1000) }]);

async function store(images: Images, spec: TestImageSpec) {
  const files = layoutFiles([{ image: buildImage(spec) }]);
  const bytes = streamOf(tarOf([...files].map(([name, content]) => ({ name, content }))));
  const [loaded] = await images.load(
    { source: { kind: 'archive', name: 't', bytes }, progress: noProgress },
    never,
  );
  return loaded ?? expect.fail('nothing loaded');
}

async function bench(overrides: Partial<ImagesDeps> = {}) {
  const directory = await temporaryDirectory();
  const images = await openTestImages(directory.path, overrides);
  return {
    images,
    root: directory.path,
    disks: async () => (await filesOf(directory.path)).filter((path) => !path.startsWith('blobs/')),
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

async function failure(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => expect.fail('it succeeded'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof HrunError)) throw error;
  return `${error.code}: ${error.message}`;
}

describe('the disk of an image', () => {
  it('is an ext4 made of its layers, decompressed one after the other', async () => {
    await using b = await bench();
    const odd = Buffer.concat([base, Buffer.alloc(100)]);
    const image = await store(b.images, {
      layers: [
        { tar: odd, compression: 'gzip' },
        { tar: top, compression: 'zstd' },
        { tar: base, compression: 'none' },
      ],
    });
    const unpacker = recordingUnpacker(async ({ onProgress }) =>
      onProgress({ layerIndex: 1, layerBytes: 2048, bytesRead: 9, entries: 1 }),
    );
    const said: string[] = [];
    const progress = {
      message: () => {},
      part: (id: string, status: string) => said.push(`${id} ${status}`),
    };
    const disk = await b.images.disks.ensure(image, { unpacker, progress }, never);
    expect(disk).to.deep.equal({
      path: b.images.store.diskPathOf(image.chainId),
      chainId: image.chainId,
      fsType: 'ext4',
    });
    const [request] = unpacker.requests;
    expect(request?.tars.map((bytes) => digestOf(bytes))).to.deep.equal(image.config.diffIds);
    expect(request?.layers.map(({ offset }) => offset % 512)).to.deep.equal([0, 0, 0]);
    expect(request?.layers.map(({ digest }) => digest)).to.deep.equal(
      image.layers.map(({ digest }) => digest),
    );
    expect(said).to.include(`${image.layers[1]?.digest.slice(7, 19)} Unpacking`);
    expect(await b.disks()).to.deep.equal([`disks/${image.chainId.slice(7)}.ext4`]);
    const { stdout } = await run('/usr/sbin/debugfs', ['-R', 'ls -p /', disk.path]);
    const names = stdout.split('\n').map((line) => line.split('/')[5]);
    expect(names.filter((name) => name !== undefined)).to.deep.equal(['.', '..']);
    await run('/usr/sbin/e2fsck', ['-fn', disk.path]);
    const { blocks, size, mode } = await stat(disk.path);
    expect(size).to.equal(64 * 1024 * 1024);
    expect(blocks * 512).to.be.lessThan(2_000_000);
    expect(mode & 0o777).to.equal(0o600);
  });

  it('that is there costs nothing, also after a restart', async () => {
    await using b = await bench();
    const image = await store(b.images, { layers: [{ tar: base }] });
    const unpacker = recordingUnpacker();
    await b.images.disks.ensure(image, { unpacker, progress: noProgress }, never);
    await b.images.disks.ensure(image, { unpacker, progress: noProgress }, never);
    const reopened = await openTestImages(b.root);
    await reopened.disks.ensure(reopened.store.byId(image.id), { unpacker, progress: noProgress }, never);
    expect(unpacker.requests).to.have.lengthOf(1);
  });

  it('is built once for many who ask at the same time, and shared by images of equal layers', async () => {
    await using b = await bench();
    const image = await store(b.images, { layers: [{ tar: base }] });
    const twin = await store(b.images, {
      layers: [{ tar: base, compression: 'zstd' }],
      config: { Cmd: ['twin'] },
    });
    const unpacker = recordingUnpacker();
    const asked = [image, image, twin, image].map((one) =>
      b.images.disks.ensure(one, { unpacker, progress: noProgress }, never),
    );
    expect(new Set((await Promise.all(asked)).map(({ path }) => path)).size).to.equal(1);
    expect(unpacker.requests).to.have.lengthOf(1);
  });

  it('is unpacked layer by layer, while later ones are still decompressed', async () => {
    await using b = await bench();
    const damaged = zstdCompressSync(top).subarray(0, -4);
    const layers = [{ tar: base }, { tar: damaged, compression: 'none' as const }];
    const image = await store(b.images, { layers });
    const unpacked: string[] = [];
    const unpacker = {
      unpack: async ({ layers: extents }: UnpackRequest) => {
        for (const extent of extents) unpacked.push((await extent).digest);
      },
    };
    const building = b.images.disks.ensure(image, { unpacker, progress: noProgress }, never);
    expect(await failure(building)).to.match(/^LAYER_CORRUPT: .* it is cut off/);
    expect(unpacked).to.deep.equal([image.layers[0]?.digest]);
    expect(await b.disks()).to.deep.equal([]);
  });

  it('says that the host is full when the guest only sees its disk fail', async () => {
    let free = 2 ** 40;
    await using b = await bench({ freeBytes: async () => free });
    const image = await store(b.images, { layers: [{ tar: base }] });
    const unpacker = {
      unpack: async ({ layers: [first] }: UnpackRequest) => {
        await first;
        free = 4096;
        throw new HrunError('AGENT_REFUSED', 'syncing the disk: input/output error');
      },
    };
    const building = b.images.disks.ensure(image, { unpacker, progress: noProgress }, never);
    expect(await failure(building)).to.match(/^DISK_FULL: .*images is full: no room to unpack/);
    expect(await b.disks()).to.deep.equal([]);
  });

  it('is given up, with what is still decompressed for it, when it cannot be unpacked', async () => {
    await using b = await bench();
    const image = await store(b.images, { layers: [{ tar: base }, { tar: Buffer.alloc(30_000_000) }] });
    const unpacker = {
      unpack: async ({ layers: [first] }: UnpackRequest) => {
        await first;
        throw new HrunError('VM_DIED', 'the microVM is gone');
      },
    };
    const building = b.images.disks.ensure(image, { unpacker, progress: noProgress }, never);
    expect(await failure(building)).to.equal('VM_DIED: the microVM is gone');
    expect(await b.disks()).to.deep.equal([]);
  });

  it('starts from the longest chain that is there', async () => {
    await using b = await bench();
    const lower = await store(b.images, { layers: [{ tar: base }] });
    const upper = await store(b.images, { layers: [{ tar: base }, { tar: top }] });
    const marking = recordingUnpacker(async ({ targetPath }) => {
      await run('/usr/sbin/debugfs', ['-w', '-R', 'mkdir marked', targetPath]);
    });
    await b.images.disks.ensure(lower, { unpacker: marking, progress: noProgress }, never);
    const unpacker = recordingUnpacker();
    const disk = await b.images.disks.ensure(upper, { unpacker, progress: noProgress }, never);
    expect(unpacker.requests[0]?.tars.map((bytes) => digestOf(bytes))).to.deep.equal([digestOf(top)]);
    const { stdout } = await run('/usr/sbin/debugfs', ['-R', 'ls /', disk.path]);
    expect(stdout).to.include('marked');
  });

  it('starts anew when the disk that is there is smaller than disks are now', async () => {
    await using b = await bench();
    const lower = await store(b.images, { layers: [{ tar: base }] });
    const upper = await store(b.images, { layers: [{ tar: base }, { tar: top }] });
    await writeFile(b.images.store.diskPathOf(lower.chainId), 'a tiny disk');
    const unpacker = recordingUnpacker();
    await b.images.disks.ensure(upper, { unpacker, progress: noProgress }, never);
    expect(unpacker.requests[0]?.tars).to.have.lengthOf(2);
  });

  it('of an image without layers is empty, and no VM is needed for it', async () => {
    await using b = await bench();
    const image = await store(b.images, { layers: [] });
    const unpacker = recordingUnpacker();
    const disk = await b.images.disks.ensure(image, { unpacker, progress: noProgress }, never);
    expect(unpacker.requests).to.deep.equal([]);
    await run('/usr/sbin/e2fsck', ['-fn', disk.path]);
  });

  it('leaves nothing behind when unpacking fails, and can be tried again', async () => {
    await using b = await bench();
    const image = await store(b.images, { layers: [{ tar: base }] });
    const broken = recordingUnpacker(async () => {
      throw new HrunError('LAYER_CORRUPT', 'an entry leads out of the root');
    });
    const failed = b.images.disks.ensure(image, { unpacker: broken, progress: noProgress }, never);
    expect(await failure(failed)).to.equal('LAYER_CORRUPT: an entry leads out of the root');
    expect(await b.disks()).to.deep.equal([]);
    await b.images.disks.ensure(image, { unpacker: recordingUnpacker(), progress: noProgress }, never);
    expect(await b.disks()).to.have.lengthOf(1);
  });

  it('is given up when the last who waits goes away, and then nothing is left', async () => {
    await using b = await bench();
    const image = await store(b.images, { layers: [{ tar: base }] });
    const stop = new AbortController();
    let told = false;
    const unpacker = recordingUnpacker(async (_, signal) => {
      stop.abort('gone');
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      told = true;
      throw signal.reason;
    });
    const asked = b.images.disks.ensure(image, { unpacker, progress: noProgress }, stop.signal);
    expect(await asked.catch((reason: unknown) => reason)).to.equal('gone');
    expect(told).to.equal(true);
    expect(await b.disks()).to.deep.equal([]);
  });

  it('keeps its image from being removed while it is built', async () => {
    await using b = await bench();
    const image = await store(b.images, { layers: [{ tar: base }] });
    const unpacker = recordingUnpacker(async () => {
      expect(await failure(b.images.store.remove(image.id, { force: true }, never))).to.include(
        'IMAGE_IN_USE',
      );
      expect((await b.images.store.prune({ all: true }, never)).deleted).to.deep.equal([]);
    });
    await b.images.disks.ensure(image, { unpacker, progress: noProgress }, never);
    await b.images.store.remove(image.id, { force: false }, never);
    expect(await filesOf(b.root)).to.deep.equal([]);
  });

  it('is not made of damaged layers', async () => {
    const image = buildImage({ layers: [{ tar: base }] });
    const other = tarOf([{ name: 'other', content: 'other' }]);
    for (const [blob, message] of [
      [gzipSync(other), /its content is sha256:\w+, but the image tells of/],
      [gzipSync(base).subarray(0, 40), /gzip stream cannot be read: it is cut off/],
      [zstdCompressSync(base).subarray(0, 40), /zstd stream cannot be read: it is cut off/],
      [Buffer.concat([gzipSync(base), Buffer.from('garbage')]), /gzip stream cannot be read: it is damaged/],
      [Buffer.concat([gzipSync(base).subarray(0, 20), Buffer.alloc(100, 'x')]), /gzip stream cannot be read/],
      [base.subarray(0, 100), /its content is/],
      [Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]), /xz compression is not supported/],
      [Buffer.alloc(0), /its content is/],
    ] as const) {
      await using b = await bench();
      const loaded = await store(b.images, { layers: [{ tar: base }] });
      expect(loaded.id).to.equal(image.config.digest);
      await writeFile(b.images.store.blobs.pathOf(loaded.layers[0]?.digest ?? loaded.id), blob);
      const unpacker = recordingUnpacker();
      const failed = await failure(b.images.disks.ensure(loaded, { unpacker, progress: noProgress }, never));
      expect(failed).to.match(/^LAYER_CORRUPT: layer [0-9a-f]{12} of [0-9a-f]{12} is damaged: /);
      expect(failed).to.match(message);
      expect(unpacker.requests).to.deep.equal([]);
      expect(await b.disks()).to.deep.equal([]);
    }
  });

  it('is not made of a layer that expands without end', async () => {
    await using b = await bench({ maxLayerBytes: 10_000_000 });
    for (const compression of ['gzip', 'zstd'] as const) {
      const image = await store(b.images, { layers: [{ tar: Buffer.alloc(50_000_000), compression }] });
      const failed = await failure(
        b.images.disks.ensure(image, { unpacker: recordingUnpacker(), progress: noProgress }, never),
      );
      expect(failed).to.match(/^LAYER_CORRUPT: .* it expands to more than 10MB$/);
      expect(await b.disks()).to.deep.equal([]);
    }
  });

  it('is not begun, or given up in time, when space is short', async () => {
    let free = 1000;
    await using b = await bench({ freeBytes: async () => free });
    const image = await store(b.images, {
      layers: [{ tar: tarOf([{ name: 'x', content: 'y'.repeat(3_000_000) }]) }],
    });
    const ensure = () =>
      b.images.disks.ensure(image, { unpacker: recordingUnpacker(), progress: noProgress }, never);
    expect(await failure(ensure())).to.match(
      /^DISK_FULL: unpacking .* needs at least .* where 1kB are free$/,
    );
    free = 20_000_000;
    expect(await failure(ensure())).to.match(
      /^DISK_FULL: unpacking .* needs at least 3\d.*MB more, where 20MB are free$/,
    );
    expect(await b.disks()).to.deep.equal([]);
    free = 2 ** 40;
    await ensure();
  });

  it('is not made of more than it can hold', async () => {
    await using b = await bench({ diskBytes: 10_000_000 });
    const image = await store(b.images, { layers: [{ tar: Buffer.alloc(20_000_000) }] });
    const unpacker = recordingUnpacker();
    expect(await failure(b.images.disks.ensure(image, { unpacker, progress: noProgress }, never))).to.match(
      /^DISK_FULL: .* unpacks to more than the 10MB that an image's disk has$/,
    );
    expect(await b.disks()).to.deep.equal([]);
  });

  it('says that the disk is full when it is', async () => {
    await using b = await bench();
    const image = await store(b.images, { layers: [{ tar: base }] });
    const full = recordingUnpacker(async () => {
      throw Object.assign(new Error('write: no space left on device'), { code: 'ENOSPC' });
    });
    const failed = b.images.disks.ensure(image, { unpacker: full, progress: noProgress }, never);
    expect(await failure(failed)).to.match(/^DISK_FULL: no space is left in .* to unpack/);
    expect(await readFile(b.images.store.blobs.pathOf(image.id))).to.have.length.greaterThan(0);
  });
});
