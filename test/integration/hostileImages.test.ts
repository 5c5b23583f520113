import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect } from 'chai';
import { contentOf, type Intercept, startFakeRegistry } from '../helpers/fakeRegistry.ts';
import { type CommandResult, type HrunHost, newHrunHost } from '../helpers/hrunHost.ts';
import {
  buildImage,
  digestOf,
  layoutFiles,
  type TestEntry,
  type TestImage,
  tarOf,
} from '../helpers/images.ts';
import { temporaryDirectory } from '../helpers/tempDir.ts';

const run = promisify(execFile);
const maxEntries = 1000;
// without a pool nothing changes behind the back of a command
const config = { imageDiskSize: '64m', imageMaxEntries: maxEntries, poolReady: 0 };

/** An image whose layer is `bytes`, whatever they are. */
function imageOf(bytes: Uint8Array): TestImage {
  return buildImage({ layers: [{ tar: bytes, compression: 'none' }] });
}

describe('bad images', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost();
    await writeFile(join(host.directory, 'config.json'), JSON.stringify({ network: 'none', ...config }));
    await host.ok(['run', '--rm', 'busybox', 'true']);
  });
  after(() => host[Symbol.asyncDispose]());

  async function load(image: TestImage, name: string): Promise<CommandResult> {
    return await host.hrun(['load', '-q'], { input: archiveOf(image, name) });
  }

  /** Runs what cannot be run and gives back what was said about it, after a look around for leftovers. */
  async function refusal(image: string, ...more: string[]): Promise<string> {
    const before = await thingsOf(host);
    const { code, stdout, stderr } = await host.hrun(['run', '--rm', ...more, image, 'true']);
    expect({ code, stdout }, stderr).to.deep.equal({ code: 125, stdout: '' });
    expect(await thingsOf(host)).to.deep.equal(before);
    return lastWords(stderr);
  }

  async function refusalOfLayer(bytes: Uint8Array): Promise<string> {
    const { code, stderr } = await load(imageOf(bytes), 'test.local/bad:1');
    expect(code, stderr).to.equal(0);
    const said = await refusal('test.local/bad:1');
    await host.ok(['rmi', 'test.local/bad:1']);
    return said
      .replaceAll(/sha256:[0-9a-f]{64}/g, 'DIGEST')
      .replace(/layer [0-9a-f]{12} of test.local\/bad:1/, 'LAYER')
      .replace('test.local/bad:1', 'IMAGE')
      .replace(/bytes \d+ to \d+/, 'bytes N to N');
  }

  describe('from a registry', () => {
    const image = imageOf(tarOf([{ name: 'x', content: randomBytes(100_000) }]));
    const layer = image.layers[0]?.digest ?? '';
    const name = 'team/app:v1';

    async function refusalOfRegistry(intercept?: Intercept, served = image): Promise<string> {
      await using registry = await startFakeRegistry(contentOf(served), intercept);
      const said = await refusal(`${registry.address}/${name}`);
      expect(await host.ok(['images', '-q', `${registry.address}/team/app`])).to.equal('');
      return said.replaceAll(registry.address, 'REGISTRY');
    }

    it('unknown there', async () => {
      await using registry = await startFakeRegistry(contentOf(image));
      expect(await refusal(`${registry.address}/nobody/nothing`)).to.equal(
        `hrun: registry ${registry.address} has no manifest nobody/nothing:latest: manifest unknown\nhint: check the spelling of name and tag`,
      );
    });

    it('from where nobody listens', async () => {
      expect(await refusal('127.0.0.1:1/nobody')).to.match(
        /^hrun: registry 127.0.0.1:1 cannot be reached: connect ECONNREFUSED 127.0.0.1:1\nhint: /,
      );
    });

    it('other bytes than the digest says', async () => {
      const said = await refusalOfRegistry((request, response) => {
        if (!request.url?.endsWith(layer)) return false;
        response.end(Buffer.alloc(image.blobs.get(layer)?.length ?? 0));
        return true;
      });
      expect(said).to.match(
        /^hrun: blob sha256:[0-9a-f]{12} of REGISTRY\/team\/app has digest sha256:[0-9a-f]{64}, but sha256:[0-9a-f]{64} was expected\nhint: /,
      );
    });

    it('a manifest that is not what was asked for by digest', async () => {
      await using registry = await startFakeRegistry(contentOf(image), (request, response) => {
        if (!request.url?.includes('/manifests/')) return false;
        response.setHeader('content-type', image.manifest.mediaType);
        response.end(image.blobs.get(image.manifest.digest));
        return true;
      });
      expect(await refusal(`${registry.address}/team/app@${digestOf('other')}`)).to.match(
        /^hrun: manifest team\/app@sha256:[0-9a-f]{64} from [\d.:]+ has digest sha256:[0-9a-f]{64}, not sha256:[0-9a-f]{64}\nhint: /,
      );
    });

    it('for another architecture', async () => {
      const other = buildImage({ layers: [], architecture: 's390x' });
      expect(await refusalOfRegistry(undefined, other)).to.equal(
        'hrun: REGISTRY/team/app:v1 is not for linux/amd64: it has linux/s390x\nhint: a microVM runs the architecture of its host; use an image built for amd64',
      );
    });
  });

  describe('with a layer that', () => {
    const cases: readonly [name: string, layer: () => Uint8Array, said: string][] = [
      ['is no tar', () => randomBytes(100_000), 'LAYER: a header with a wrong checksum at byte 0'],
      [
        'is a text',
        () => Buffer.from('#!/bin/sh\necho I am a layer\n'),
        'LAYER: the archive is cut off at byte 0',
      ],
      [
        'ends too early',
        () => tarOf([{ name: 'a', content: 'x'.repeat(5000) }]).subarray(0, 3000),
        'LAYER: entry "a" at byte 0: the archive ends inside its data',
      ],
      [
        'climbs out',
        () => tarOf([{ name: '../../etc/passwd', content: 'root::0:0' }]),
        'LAYER: entry "../../etc/passwd" at byte 0: a name that leads out of the root directory',
      ],
      [
        'climbs out in the middle',
        () => tarOf([{ name: 'a/../../etc/passwd', content: '' }]),
        'LAYER: entry "a/../../etc/passwd" at byte 0: a name that leads out of the root directory',
      ],
      [
        'links to above the root',
        () => tarOf([{ name: 'a', type: 'Link', target: '../../etc/shadow' }]),
        'LAYER: entry "a" at byte 0: hard link to "../../etc/shadow": a name that leads out of the root directory',
      ],
      [
        'links to what is not there',
        () => tarOf([{ name: 'a', type: 'Link', target: '/etc/shadow' }]),
        'LAYER: entry "a" at byte 0: a hard link to "/etc/shadow", which does not exist',
      ],
      ['has too many entries', () => tarOf(many(maxEntries + 1)), 'LAYER: more than 1000 entries'],
      [
        'does not fit',
        () => tarOf(big(63)),
        'LAYER: entry "big" at byte 0: writing bytes N to N of its data: no space left on device',
      ],
      [
        'is larger than a disk',
        () => tarOf(big(70)),
        "IMAGE unpacks to more than the 67.11MB that an image's disk has",
      ],
      [
        'is a cut-off gzip stream',
        () => gzipSync(randomBytes(10_000)).subarray(0, -9),
        'LAYER is damaged: the gzip stream cannot be read: it is cut off',
      ],
      [
        'is a cut-off zstd stream',
        () => zstdCompressSync(randomBytes(10_000)).subarray(0, -9),
        'LAYER is damaged: the zstd stream cannot be read: it is cut off',
      ],
      [
        'is not what the image promised',
        () => gzipSync(tarOf([{ name: 'a' }])),
        'LAYER is damaged: its content is DIGEST, but the image tells of DIGEST',
      ],
      [
        'is a bomb of many gigabytes',
        () => Buffer.concat(Array(100).fill(gzipSync(Buffer.alloc(100_000_000)))),
        "IMAGE unpacks to more than the 67.11MB that an image's disk has",
      ],
      [
        'has a bad checksum',
        () => damaged(tarOf([{ name: 'a' }])),
        'LAYER: a header with a wrong checksum at byte 0',
      ],
    ];
    for (const [name, layer, said] of cases) {
      it(name, async () => {
        const [message, hint, ...more] = (await refusalOfLayer(layer())).split('\n');
        expect([message, ...more]).to.deep.equal([`hrun: ${said}`]);
        expect(hint).to.match(/^hint: (remove the image and get it again|raise image(DiskSize|MaxEntries))/);
      });
    }
  });

  it('too large for the disk of the host', async () => {
    await using directory = await temporaryDirectory();
    // 50 of it are for the file system of QEMU
    await using small = await mountMemory(directory.path, '106m');
    await using other = await newHrunHost();
    // a template would take all the room there is
    await writeFile(
      join(other.directory, 'config.json'),
      JSON.stringify({ network: 'none', templateScope: 'none' }),
    );
    const env = { HRUN_ROOT: small.path };
    const files = async () => (await readdir(small.path, { recursive: true })).toSorted();
    // As files they take four times the room they have in the archive, so it shows while they are written.
    const tiny = imageOf(tarOf(many(12_000)));
    const archive = archiveOf(tiny, 'test.local/many:1');
    await other.ok(['load', '-q'], { input: archive, env });
    await other.hrun(['run', '--rm', '--pull', 'never', 'nobody', 'true'], { env });
    // that it is there already
    await other.hrun(['doctor'], { env });
    const before = await files();
    const full = await other.hrun(['run', '--rm', 'test.local/many:1', 'true'], { env });
    expect({ code: full.code, stdout: full.stdout }, full.stderr).to.deep.equal({ code: 125, stdout: '' });
    expect(lastWords(full.stderr)).to.match(
      /^hrun: \S+\/images is full: no room to unpack test.local\/many:1\nhint: free some space/,
    );
    expect(await files()).to.deep.equal(before);
    const large = imageOf(tarOf(big(70)));
    const loaded = await other.hrun(['load', '-q'], {
      input: archiveOf(large, 'test.local/large:1'),
      env,
    });
    expect(loaded.code).to.equal(1);
    expect(loaded.stderr).to.match(
      /^hrun: no space is left in \S+\/images for blobs\/\S+ in stdin\nhint: free some space/,
    );
    expect(await files()).to.deep.equal(before);
  });

  it('follow no link out of the root', async () => {
    const tar = tarOf([
      { name: 'out', type: 'SymbolicLink', target: '../../../../../../tmp' },
      { name: 'out/planted', content: 'x' },
      { name: 'abs', type: 'SymbolicLink', target: '/proc/self/root' },
      { name: 'abs/planted', content: 'x' },
      { name: 'bin/busybox', content: await readFile('/bin/busybox'), mode: 0o755 },
    ]);
    expect((await load(imageOf(tar), 'test.local/links:1')).code).to.equal(0);
    const output = await host.ok([
      'run',
      '--rm',
      'test.local/links:1',
      '/bin/busybox',
      'find',
      '/tmp',
      '/proc/self/root/',
      '-maxdepth',
      '1',
      '-name',
      'planted',
    ]);
    expect(output).to.equal('/tmp/planted');
  });
});

function archiveOf(image: TestImage, name: string): Buffer {
  const files = layoutFiles([{ image, name }]);
  return tarOf([...files].map(([path, content]) => ({ name: path, content })));
}

/** A file system of this size in memory. */
async function mountMemory(path: string, size: string): Promise<{ readonly path: string } & AsyncDisposable> {
  await run('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=700`, 'hrun-test', path]);
  return { path, [Symbol.asyncDispose]: async () => void (await run('umount', [path])) };
}

function many(count: number): TestEntry[] {
  return Array.from({ length: count }, (_, index) => ({ name: `f${index}`, content: 'x' }));
}

function big(sizeMiB: number): TestEntry[] {
  return [{ name: 'big', content: Buffer.alloc(sizeMiB * 1024 * 1024, 'x') }];
}

function damaged(tar: Buffer): Buffer {
  tar[0] = 'z'.charCodeAt(0);
  return tar;
}

/** The error and its hint, without the news of progress before it. */
function lastWords(stderr: string): string {
  const lines = stderr.trimEnd().split('\n');
  return lines.slice(lines.findIndex((line) => line.startsWith('hrun: '))).join('\n');
}

/** All that a failed command could leave behind: files, microVMs, processes, mounts. */
async function thingsOf(host: HrunHost): Promise<readonly string[]> {
  const files = await readdir(host.root, { recursive: true });
  const vms = await readdir(join(host.run, 'vms'));
  const processes = await host.processes();
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8'))
    .split('\n')
    .filter((line) => line.includes(host.directory));
  return [...files.toSorted(), ...vms, ...processes.map(({ command }) => command), ...mounts];
}
