import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { HrunError } from '../../src/base/errors.ts';
import type { Images } from '../../src/image/images.ts';
import { noProgress } from '../../src/image/progress.ts';
import type { PullRequest } from '../../src/image/pull.ts';
import { saveImages } from '../../src/image/save.ts';
import {
  buildImage,
  buildIndex,
  digestOf,
  layoutFiles,
  pushLayout,
  tarOf,
  writeLayout,
} from '../helpers/images.ts';
import { startBreakingProxy, startRegistry } from '../helpers/registry.ts';
import { temporaryDirectory } from '../helpers/tempDir.ts';
import { never, openTestImages, recordingUnpacker } from '../helpers/testImages.ts';

const run = promisify(execFile);
const noise = randomBytes(5_000_000);
const image = buildImage({
  layers: [
    { tar: tarOf([{ name: 'noise', content: noise }]), compression: 'gzip' },
    { tar: tarOf([{ name: 'second', content: 'second' }]), compression: 'gzip' },
    { tar: tarOf([{ name: 'third', content: 'third' }]), compression: 'zstd' },
    { tar: tarOf([{ name: 'fourth', content: 'fourth' }]), compression: 'none' },
  ],
  config: { Cmd: ['/bin/sh'], Env: ['A=b'], Labels: { maker: 'test' } },
});

function pull(images: Images, reference: string, overrides: Partial<PullRequest> = {}) {
  const request = {
    reference,
    insecure: false,
    dockerConfig: undefined,
    environment: new Map(),
    progress: noProgress,
  };
  return images.pull({ ...request, retryPauseMs: 5, ...overrides }, never);
}

async function failure(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => expect.fail('it succeeded'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof HrunError)) throw error;
  return `${error.code}: ${error.message}`;
}

/** A registry with `image` under team/app:v1, and a fresh image store. */
async function bench(options: { readonly user?: string; readonly password?: string } = {}) {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await temporaryDirectory());
  const registry = undo.use(await startRegistry(options));
  const layout = join(directory.path, 'layout');
  await writeLayout(layout, layoutFiles([{ image, name: 'app' }]));
  const credentials =
    options.user === undefined ? {} : { credentials: `${options.user}:${options.password}` };
  await pushLayout(layout, 'app', `${registry.address}/team/app:v1`, credentials);
  const root = join(directory.path, 'root');
  await mkdir(root);
  const images = await openTestImages(root);
  const owned = undo.move();
  return {
    directory: directory.path,
    root,
    registry,
    images,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

describe('a real registry', () => {
  it('gives an image with gzip, zstd and plain layers, whole', async () => {
    await using b = await bench();
    const { image: pulled, digest } = await pull(b.images, `${b.registry.address}/team/app:v1`);
    expect(digest).to.equal(image.manifest.digest);
    expect(pulled.id).to.equal(image.config.digest);
    expect(pulled.config.process.labels).to.deep.equal({ maker: 'test' });
    const unpacker = recordingUnpacker();
    await b.images.disks.ensure(pulled, { unpacker, progress: noProgress }, never);
    expect(unpacker.requests[0]?.tars.map((bytes) => digestOf(bytes))).to.deep.equal(image.diffIds);
  });

  it('gives a Docker schema 2 image', async () => {
    await using b = await bench();
    const docker = buildImage({ layers: [{ tar: tarOf([{ name: 'x', content: 'x' }]) }] });
    const layout = join(b.directory, 'docker');
    await writeLayout(layout, layoutFiles([{ image: docker, name: 'x' }]));
    const destination = `${b.registry.address}/docker:v2s2`;
    await pushLayout(layout, 'x', destination, { format: 'v2s2' });
    const { image: pulled } = await pull(b.images, destination);
    expect(pulled.config.diffIds).to.deep.equal(docker.diffIds);
    expect(pulled.layers[0]?.mediaType).to.equal('application/vnd.docker.image.rootfs.diff.tar.gzip');
    const inspected = await run('skopeo', [
      'inspect',
      '--raw',
      '--tls-verify=false',
      `docker://${destination}`,
    ]);
    expect(pulled.manifestDigest).to.equal(digestOf(inspected.stdout));
  });

  it('gives the platform of this host from an index, by tag and by digest', async () => {
    await using b = await bench();
    const other = buildImage({ layers: [], architecture: 's390x' });
    const { bytes, index } = buildIndex([other, image]);
    const files = new Map<string, Uint8Array>([...layoutFiles([{ image }, { image: other }])]);
    files.set(`blobs/${index.digest.replace(':', '/')}`, bytes);
    files.set('index.json', Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [index] })));
    const layout = join(b.directory, 'multi');
    await writeLayout(layout, files);
    const name = `${b.registry.address}/multi`;
    await pushLayout(layout, undefined, `${name}:v1`, { all: true });
    const byTag = await pull(b.images, `${name}:v1`);
    expect(byTag.digest).to.equal(index.digest);
    expect(byTag.image.id).to.equal(image.config.digest);
    const byDigest = await pull(b.images, `${name}@${index.digest}`);
    expect(byDigest.upToDate).to.equal(true);
    const s390x = { os: 'linux' as const, architecture: 's390x', variant: '' };
    expect((await pull(b.images, `${name}:v1`, { platform: s390x })).image.id).to.equal(other.config.digest);
    const mips = { os: 'linux' as const, architecture: 'mips', variant: '' };
    expect(await failure(pull(b.images, `${name}:v1`, { platform: mips }))).to.match(
      /^PLATFORM_MISMATCH: .*linux\/s390x/,
    );
  });

  it('tells what it does not have', async () => {
    await using b = await bench();
    const { address } = b.registry;
    expect(await failure(pull(b.images, `${address}/team/app:v2`))).to.equal(
      `IMAGE_UNKNOWN: registry ${address} has no manifest team/app:v2: manifest unknown`,
    );
    expect(await failure(pull(b.images, `${address}/nobody/nothing`))).to.include('IMAGE_UNKNOWN');
  });

  it('with a password lets in who knows it', async () => {
    await using b = await bench({ user: 'me', password: 'se:cret' });
    const reference = `${b.registry.address}/team/app:v1`;
    const configOf = (password: string) =>
      JSON.stringify({
        auths: { [b.registry.address]: { auth: Buffer.from(`me:${password}`).toString('base64') } },
      });
    expect(await failure(pull(b.images, reference))).to.include('REGISTRY_DENIED');
    expect(await failure(pull(b.images, reference, { dockerConfig: configOf('wrong') }))).to.include(
      'REGISTRY_DENIED',
    );
    await pull(b.images, reference, { dockerConfig: configOf('se:cret') });
  });

  it('reached over a line that breaks again and again gives the image in the end', async () => {
    await using b = await bench();
    // The first connections carry the probe for TLS and the manifest.
    await using proxy = await startBreakingProxy(b.registry.port, (n) => (n < 12 ? 700_000 : undefined));
    const seen: number[] = [];
    const progress = {
      message: () => {},
      part: (id: string, _: string, amount?: { readonly current: number }) => {
        if (amount !== undefined && image.layers[0]?.digest.startsWith(`sha256:${id}`))
          seen.push(amount.current);
      },
    };
    const { image: pulled } = await pull(b.images, `${proxy.address}/team/app:v1`, { progress });
    expect(pulled.id).to.equal(image.config.digest);
    expect(proxy.connections).to.be.greaterThan(5);
    // It went on from what it had: the count never falls.
    expect(seen).to.deep.equal([...seen].sort((a, c) => a - c));
    expect(
      digestOf(await readFile(b.images.store.blobs.pathOf(pulled.layers[0]?.digest ?? pulled.id))),
    ).to.equal(image.layers[0]?.digest);
  });

  it('that goes away in the middle is named, and the next command goes on', async () => {
    await using b = await bench();
    let open = false;
    await using proxy = await startBreakingProxy(b.registry.port, (n) =>
      open ? undefined : n < 3 ? 2_000_000 : 0,
    );
    const reference = `${proxy.address}/team/app:v1`;
    expect(await failure(pull(b.images, reference))).to.include(
      `REGISTRY_UNREACHABLE: registry ${proxy.address}`,
    );
    const hex = image.layers[0]?.digest.slice(7) ?? '';
    const { size } = await stat(join(b.root, 'images/partial', hex));
    expect(size).to.be.greaterThan(0);
    open = true;
    const first: number[] = [];
    const progress = {
      message: () => {},
      part: (id: string, _: string, amount?: { readonly current: number }) => {
        if (amount !== undefined && hex.startsWith(id)) first.push(amount.current);
      },
    };
    const reopened = await openTestImages(b.root);
    await pull(reopened, reference, { progress });
    expect(first[0]).to.equal(size);
  });
});

describe('archives of other tools', () => {
  async function archiveOf(directory: string, source: string, destination: string): Promise<string> {
    const path = join(directory, `${randomBytes(4).toString('hex')}.tar`);
    await run('skopeo', ['copy', '-q', '--insecure-policy', source, destination.replace('PATH', path)]);
    return path;
  }

  async function load(images: Images, path: string) {
    const bytes = createReadStream(path);
    return await images.load({ source: { kind: 'archive', name: path, bytes }, progress: noProgress }, never);
  }

  it('of skopeo are loaded: docker-archive and oci-archive', async () => {
    await using directory = await temporaryDirectory();
    // Docker's format of that skopeo knows no zstd.
    const tars = [tarOf([{ name: 'one', content: noise }]), tarOf([{ name: 'two', content: '2' }])];
    const plain = buildImage({ layers: tars.map((tar) => ({ tar })) });
    const layout = join(directory.path, 'layout');
    await writeLayout(layout, layoutFiles([{ image: plain, name: 'x' }]));
    const images = await openTestImages(directory.path);
    const source = `oci:${layout}:x`;
    const dockerArchive = await archiveOf(directory.path, source, 'docker-archive:PATH:team/app:v1');
    const [docker] = await load(images, dockerArchive);
    expect(docker?.names).to.deep.equal(['docker.io/team/app:v1']);
    expect(docker?.config.diffIds).to.deep.equal(plain.diffIds);
    const ociArchive = await archiveOf(directory.path, source, 'oci-archive:PATH:host.example/team/app:v2');
    const [oci] = await load(images, ociArchive);
    expect(oci?.names).to.include('host.example/team/app:v2');
    expect(oci?.config.diffIds).to.deep.equal(plain.diffIds);
  });

  it('of hrun are read by skopeo as OCI and as docker archive, and by hrun', async () => {
    await using b = await bench();
    const { image: pulled } = await pull(b.images, `${b.registry.address}/team/app:v1`);
    await b.images.store.tag(pulled.id, 'app:saved', never);
    const path = join(b.directory, 'saved.tar');
    await pipeline(Readable.from(saveImages(b.images.store, ['app:saved'], never)), createWriteStream(path));
    for (const source of [`oci-archive:${path}:saved`, `docker-archive:${path}:app:saved`]) {
      const copy = join(b.directory, randomBytes(4).toString('hex'));
      await run('skopeo', ['copy', '-q', '--insecure-policy', source, `oci:${copy}:x`]);
      const { stdout } = await run('skopeo', ['inspect', '--config', `oci:${copy}:x`]);
      expect(JSON.parse(stdout).rootfs.diff_ids, source).to.deep.equal(image.diffIds);
    }
    await using directory = await temporaryDirectory();
    const elsewhere = await openTestImages(directory.path);
    const [again] = await load(elsewhere, path);
    expect(again?.id).to.equal(pulled.id);
    expect(again?.names).to.deep.equal(['docker.io/library/app:saved']);
  });

  it('of umoci, a layout directory, are loaded', async () => {
    await using directory = await temporaryDirectory();
    const layout = join(directory.path, 'layout');
    await run('umoci', ['init', '--layout', layout]);
    await run('umoci', ['new', '--image', `${layout}:app`]);
    await run('umoci', [
      'config',
      '--image',
      `${layout}:app`,
      '--config.cmd',
      '/hello',
      '--config.user',
      '7:8',
    ]);
    const images = await openTestImages(directory.path);
    const reader = {
      name: layout,
      readFile: (path: string) => readFile(join(layout, path)),
      openStream: (path: string) => createReadStream(join(layout, path)),
    };
    const [loaded] = await images.load({ source: { kind: 'layout', reader }, progress: noProgress }, never);
    expect(loaded?.config.process).to.deep.include({ cmd: ['/hello'], user: '7:8' });
    expect(loaded?.layers).to.deep.equal([]);
  });

  it('of a root filesystem become an image', async () => {
    await using directory = await temporaryDirectory();
    const tree = join(directory.path, 'tree');
    await mkdir(join(tree, 'etc'), { recursive: true });
    await writeFile(join(tree, 'etc/hostname'), 'x');
    const path = join(directory.path, 'root.tar.zst');
    await run('tar', ['--zstd', '-C', tree, '-cf', path, '.']);
    const images = await openTestImages(directory.path);
    const request = {
      source: { name: path, bytes: createReadStream(path) },
      message: undefined,
      onBytes: () => {},
    };
    const imported = await images.import({ ...request, reference: 'mine', changes: ['CMD ["sh"]'] }, never);
    const unpacker = recordingUnpacker();
    await images.disks.ensure(imported, { unpacker, progress: noProgress }, never);
    const plain = join(directory.path, 'plain.tar');
    await writeFile(plain, unpacker.requests[0]?.tars[0] ?? '');
    const { stdout } = await run('tar', ['-tf', plain]);
    expect(stdout.split('\n')).to.include('./etc/hostname');
  });
});

describe('the built-in image', () => {
  it('is made the same each time, and has a shell', async () => {
    await using directory = await temporaryDirectory();
    const paths = ['one.tar', 'two.tar'].map((name) => join(directory.path, name));
    for (const path of paths) await run('images/busybox', [path]);
    const [one, two] = await Promise.all(paths.map((path) => readFile(path)));
    expect(digestOf(one ?? '')).to.equal(digestOf(two ?? ''));
    const builtIn = new Map([['docker.io/library/busybox:latest', paths[0] ?? '']]);
    const images = await openTestImages(directory.path, { builtIn });
    const image = await images.find('busybox', never);
    expect(image?.config.process.cmd).to.deep.equal(['sh']);
    const unpacker = recordingUnpacker();
    if (image !== undefined) await images.disks.ensure(image, { unpacker, progress: noProgress }, never);
    const plain = join(directory.path, 'plain.tar');
    await writeFile(plain, unpacker.requests[0]?.tars[0] ?? '');
    const { stdout } = await run('tar', ['-tvf', plain, '--numeric-owner']);
    expect(stdout).to.match(/^-rwxr-xr-x 0\/0 +\d+ 1970-01-01 .*\.\/bin\/\S+$/m);
    expect(stdout).to.match(/^h.*\.\/bin\/sh link to \.\/bin\/\S+$/m);
    expect(stdout).to.match(/^drwxrwxrwt 0\/0 .*\.\/tmp\/$/m);
    expect(stdout).to.match(/\.\/etc\/passwd$/m);
  });
});
