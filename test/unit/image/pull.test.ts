import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { HrunError } from '../../../src/base/errors.ts';
import type { Images } from '../../../src/image/images.ts';
import type { PullRequest } from '../../../src/image/pull.ts';
import {
  contentOf,
  type FakeRegistry,
  type Intercept,
  startFakeRegistry,
} from '../../helpers/fakeRegistry.ts';
import { buildImage, buildIndex, digestOf, type TestImage, tarOf } from '../../helpers/images.ts';
import { startHttp } from '../../helpers/registry.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';
import { filesOf, never, openTestImages } from '../../helpers/testImages.ts';

const run = promisify(execFile);
const noise = randomBytes(300_000);
const image = buildImage({
  layers: [
    { tar: tarOf([{ name: 'a', content: noise }]), compression: 'none' },
    { tar: tarOf([{ name: 'b', content: 'small' }]), compression: 'zstd' },
  ],
});
const bigBlob = image.layers[0]?.digest ?? '';

interface Bench extends AsyncDisposable {
  readonly registry: FakeRegistry;
  readonly images: Images;
  readonly root: string;
  pull(overrides?: Partial<PullRequest>, signal?: AbortSignal): ReturnType<Images['pull']>;
  /** Code and whole message of the failure that a pull must have. */
  failure(overrides?: Partial<PullRequest>, signal?: AbortSignal): Promise<string>;
}

async function bench(
  served: TestImage | Parameters<typeof startFakeRegistry>[0],
  intercept?: Intercept,
): Promise<Bench> {
  await using undo = new AsyncDisposableStack();
  const root = undo.use(await temporaryDirectory()).path;
  const content = 'manifest' in served ? contentOf(served) : served;
  const registry = undo.use(await startFakeRegistry(content, intercept));
  const images = await openTestImages(root);
  const pull: Bench['pull'] = (overrides = {}, signal = never) =>
    images.pull(
      {
        reference: `${registry.address}/team/app:v1`,
        insecure: false,
        dockerConfig: undefined,
        environment: new Map(),
        progress: { message: () => {}, part: () => {} },
        retryPauseMs: 1,
        idleTimeoutMs: 2000,
        ...overrides,
      },
      signal,
    );
  const owned = undo.move();
  return {
    registry,
    images,
    root,
    pull,
    failure: async (overrides, signal) => {
      const error = await pull(overrides, signal).then(
        () => expect.fail('the pull succeeded'),
        (reason: unknown) => reason,
      );
      if (!(error instanceof HrunError)) throw error;
      return `${error.code}: ${error.message}`;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const isBlob = (url: string | undefined) => url?.includes('/blobs/') === true;
const isManifest = (url: string | undefined) => url?.includes('/manifests/') === true;

describe('pulling an image', () => {
  it('stores it under its name and digest, with progress', async () => {
    await using b = await bench(image);
    const said: string[] = [];
    const progress = {
      message: (text: string) => said.push(text),
      part: (id: string, status: string) => said.push(`${id} ${status}`),
    };
    const pulled = await b.pull({ progress });
    expect(pulled.upToDate).to.equal(false);
    expect(pulled.digest).to.equal(image.manifest.digest);
    expect(pulled.image.id).to.equal(image.config.digest);
    expect(pulled.image.names).to.deep.equal([`${b.registry.address}/team/app:v1`]);
    expect(pulled.image.repoDigests).to.deep.equal([
      `${b.registry.address}/team/app@${image.manifest.digest}`,
    ]);
    expect(pulled.image.layers.map(({ digest }) => digest)).to.deep.equal(
      image.layers.map(({ digest }) => digest),
    );
    expect(said[0]).to.equal(`v1: Pulling from ${b.registry.address}/team/app`);
    expect(said).to.include(`${bigBlob.slice(7, 19)} Downloading`);
    expect(said).to.include(`${bigBlob.slice(7, 19)} Download complete`);
    expect(await filesOf(b.root)).to.deep.equal(
      [...image.blobs.keys()].map((digest) => `blobs/${digest.replace(':', '/')}`).sort(),
    );
  });

  it('fetches nothing but the manifest when it is up to date', async () => {
    await using b = await bench(image);
    await b.pull();
    const before = b.registry.requests.length;
    const again = await b.pull();
    expect(again.upToDate).to.equal(true);
    expect(b.registry.requests.slice(before).filter(isBlob)).to.deep.equal([]);
  });

  it('survives a restart', async () => {
    await using b = await bench(image);
    await b.pull();
    const reopened = await openTestImages(b.root);
    expect(reopened.store.get(`${b.registry.address}/team/app:v1`).id).to.equal(image.config.digest);
    expect(reopened.store.get(image.config.digest.slice(7, 15)).id).to.equal(image.config.digest);
  });

  it('by digest gives no name, and is found by that digest', async () => {
    await using b = await bench(image);
    const reference = `${b.registry.address}/team/app@${image.manifest.digest}`;
    const pulled = await b.pull({ reference });
    expect(pulled.image.names).to.deep.equal([]);
    expect(b.images.store.get(reference).id).to.equal(image.config.digest);
  });

  it('asks for the same blob once when two pull at the same time', async () => {
    await using b = await bench(image);
    await Promise.all([b.pull(), b.pull(), b.pull()]);
    expect(b.registry.requests.filter((line) => line.includes(`/blobs/${bigBlob}`))).to.have.lengthOf(1);
  });

  it('chooses the platform from an index', async () => {
    const other = buildImage({ layers: [], architecture: 's390x' });
    const { bytes, index } = buildIndex([other, image]);
    const blobs = new Map([...other.blobs, ...image.blobs]);
    await using b = await bench({
      tags: new Map([['team/app:v1', { bytes, mediaType: index.mediaType }]]),
      blobs,
    });
    const pulled = await b.pull();
    expect(pulled.image.id).to.equal(image.config.digest);
    expect(pulled.digest).to.equal(index.digest);
    const exotic = { os: 'linux' as const, architecture: 'mips', variant: '' };
    expect(await b.failure({ platform: exotic })).to.match(
      /^PLATFORM_MISMATCH: .*team\/app:v1 is not for linux\/mips: it has linux\/s390x, linux\//,
    );
  });

  it('refuses an image for another architecture that hides it in the config', async () => {
    await using b = await bench(buildImage({ layers: [], architecture: 's390x' }));
    expect(await b.failure()).to.include('PLATFORM_MISMATCH');
    expect(await filesOf(b.root)).to.deep.equal([]);
    await using windows = await bench(buildImage({ layers: [], os: 'windows' }));
    expect(await windows.failure()).to.include('it has windows/');
  });

  it('refuses a manifest whose digest is not the one asked for', async () => {
    const lie = Buffer.from(JSON.stringify({ schemaVersion: 2 }));
    await using b = await bench(image, (request, response) => {
      if (!isManifest(request.url)) return false;
      response.end(lie);
      return true;
    });
    const reference = `${b.registry.address}/team/app@${image.manifest.digest}`;
    expect(await b.failure({ reference })).to.include('DIGEST_MISMATCH');
  });

  it('refuses a changed blob and keeps nothing of it', async () => {
    let lies = true;
    await using b = await bench(image, (request, response) => {
      if (!lies || request.url?.endsWith(bigBlob) !== true) return false;
      const changed = Buffer.from(image.blobs.get(bigBlob) ?? []);
      changed[1000] = (changed[1000] ?? 0) ^ 1;
      response.end(changed);
      return true;
    });
    expect(await b.failure()).to.match(/^DIGEST_MISMATCH: blob sha256:/);
    expect(await filesOf(b.root)).to.deep.equal([]);
    expect(b.images.store.list()).to.deep.equal([]);
    lies = false;
    await b.pull();
  });

  it('refuses a blob that is longer than announced', async () => {
    await using b = await bench(image, (request, response) => {
      if (request.url?.endsWith(bigBlob) !== true) return false;
      response.end(Buffer.concat([image.blobs.get(bigBlob) ?? Buffer.alloc(0), Buffer.from('more')]));
      return true;
    });
    expect(await b.failure()).to.match(/^DIGEST_MISMATCH: .* is longer than/);
  });

  it('goes on where a connection broke, without asking again for what it has', async () => {
    let broken = 0;
    await using b = await bench(image, (request, response) => {
      if (request.url?.endsWith(bigBlob) !== true || broken === 3) return false;
      const bytes = image.blobs.get(bigBlob) ?? Buffer.alloc(0);
      const start = Number(/\d+/.exec(request.headers.range ?? '0')?.[0]);
      broken += 1;
      response.writeHead(start === 0 ? 200 : 206, {
        'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}`,
        'content-length': bytes.length - start,
      });
      response.write(bytes.subarray(start, start + 70_000), () => response.destroy());
      return true;
    });
    await b.pull();
    const asked = b.registry.requests.filter((line) => line.includes(bigBlob));
    expect(asked).to.have.lengthOf(4);
    const offsets = asked.map((line) => Number(/bytes=(\d+)/.exec(line)?.[1] ?? 0));
    expect(offsets[0]).to.equal(0);
    for (const [number, offset] of offsets.entries()) {
      if (number > 0) expect(offset).to.be.greaterThan(offsets[number - 1] ?? 0);
    }
  });

  it('continues in the next command', async () => {
    let cut = true;
    await using b = await bench(image, (request, response) => {
      if (!cut || request.url?.endsWith(bigBlob) !== true) return false;
      const start = Number(/\d+/.exec(request.headers.range ?? '0')?.[0]);
      if (start > 0) {
        response.writeHead(503).end();
        return true;
      }
      const bytes = image.blobs.get(bigBlob) ?? Buffer.alloc(0);
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 100_000), () => response.destroy());
      return true;
    });
    expect(await b.failure()).to.match(/^REGISTRY_UNREACHABLE: .*answers 503/);
    expect(await readdir(join(b.root, 'images/partial'))).to.deep.equal([bigBlob.slice(7)]);
    cut = false;
    const before = b.registry.requests.length;
    await b.pull();
    const asked = b.registry.requests.slice(before).filter((line) => line.includes(bigBlob));
    expect(asked).to.have.lengthOf(1);
    expect(asked[0]).to.match(/ bytes=[1-9]\d*-$/);
    expect(await readdir(join(b.root, 'images/partial'))).to.deep.equal([]);
  });

  it('begins again when what an earlier command left has rotted, or the server has no ranges', async () => {
    await using b = await bench(image);
    await writeFile(join(b.root, 'images/partial', bigBlob.slice(7)), Buffer.alloc(5000, 'x'));
    await b.pull();
    await using plain = await bench(image, (request, response) => {
      if (!isBlob(request.url)) return false;
      response.end(image.blobs.get(request.url?.split('/').at(-1) ?? ''));
      return true;
    });
    await writeFile(join(plain.root, 'images/partial', bigBlob.slice(7)), Buffer.alloc(5000, 'x'));
    await plain.pull();
    await using tooLong = await bench(image);
    await writeFile(join(tooLong.root, 'images/partial', bigBlob.slice(7)), Buffer.alloc(5_000_000, 'x'));
    await tooLong.pull();
  });

  it('tries again when the server is busy, and says so when it stays busy', async () => {
    let busy = 2;
    await using b = await bench(image, (request, response) => {
      if (!isManifest(request.url) || busy-- <= 0) return false;
      response.writeHead(busy === 0 ? 429 : 502, { 'retry-after': '0' }).end();
      return true;
    });
    await b.pull();
    await using down = await bench(image, (request, response) => {
      if (!isManifest(request.url)) return false;
      response.writeHead(429).end('{"errors":[{"code":"TOOMANYREQUESTS","message":"slow\\u001b[31m down"}]}');
      return true;
    });
    expect(await down.failure()).to.match(/^REGISTRY_UNREACHABLE: .* answers 429 .*: slow\?\[31m down$/);
  });

  it('does not try again what will not change', async () => {
    await using b = await bench(image);
    const reference = `${b.registry.address}/team/app:absent`;
    expect(await b.failure({ reference })).to.match(
      /^IMAGE_UNKNOWN: registry .* has no manifest team\/app:absent/,
    );
    expect(b.registry.requests.filter(isManifest)).to.have.lengthOf(1);
  });

  it('names a host that is not there', async () => {
    await using b = await bench(image);
    const { address } = b.registry;
    await b.registry[Symbol.asyncDispose]();
    const failure = await b.failure();
    expect(failure).to.include(`REGISTRY_UNREACHABLE: registry ${address} cannot be reached`);
    expect(failure).to.include('ECONNREFUSED');
    const nowhere = await b.failure({ reference: 'no-such-host.invalid/x' });
    expect(nowhere).to.match(/^REGISTRY_UNREACHABLE: registry no-such-host\.invalid cannot be reached: .+/);
  });

  it('gives up on a server that says nothing', async () => {
    await using b = await bench(image, (request) => isManifest(request.url));
    expect(await b.failure({ idleTimeoutMs: 50 })).to.include('no answer for 0.05 s');
  });

  it('stops at once when told to, and leaves nothing half-made but the partial blob', async () => {
    const stop = new AbortController();
    await using b = await bench(image, (request, response) => {
      if (request.url?.endsWith(bigBlob) !== true) return false;
      response.write((image.blobs.get(bigBlob) ?? Buffer.alloc(0)).subarray(0, 1000), () =>
        stop.abort('stopped'),
      );
      return true;
    });
    const reason = await b.pull({ idleTimeoutMs: 60_000 }, stop.signal).catch((error: unknown) => error);
    expect(reason).to.equal('stopped');
    expect((await filesOf(b.root)).filter((path) => path.startsWith('tmp/'))).to.deep.equal([]);
  });

  it('calls nonsense by its name', async () => {
    for (const [body, code] of [
      ['<html>hotel wifi</html>', 'REGISTRY_PROTOCOL'],
      ['', 'REGISTRY_PROTOCOL'],
      ['{"schemaVersion":1}', 'IMAGE_INVALID'],
      ['{"schemaVersion":2,"layers":"x"}', 'IMAGE_INVALID'],
      ['{"schemaVersion":2,"manifests":[],"layers":[]}', 'IMAGE_INVALID'],
      ['{', 'IMAGE_INVALID'],
    ] as const) {
      await using b = await bench(image, (request, response) => {
        if (!isManifest(request.url)) return false;
        response.end(body);
        return true;
      });
      expect(await b.failure(), body).to.match(new RegExp(`^${code}: `));
    }
  });

  it('reads no manifest without end', async () => {
    await using b = await bench(image, (request, response) => {
      if (!isManifest(request.url)) return false;
      const fill = () => {
        while (response.write(Buffer.alloc(65_536, ' ')));
      };
      response.on('drain', fill);
      response.on('error', () => {});
      fill();
      return true;
    });
    expect(await b.failure()).to.include('REGISTRY_PROTOCOL: registry');
  });

  it('refuses an index that leads to itself', async () => {
    const platform = image.platform;
    const mediaType = 'application/vnd.oci.image.index.v1+json';
    let bytes = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType, manifests: [{ ...image.manifest, platform }] }),
    );
    const blobs = new Map<string, Uint8Array>(image.blobs);
    for (let depth = 0; depth < 4; depth += 1) {
      blobs.set(digestOf(bytes), bytes);
      const entry = { mediaType, digest: digestOf(bytes), size: bytes.length, platform };
      bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, manifests: [entry] }));
    }
    await using b = await bench({ tags: new Map([['team/app:v1', { bytes, mediaType }]]), blobs });
    expect(await b.failure()).to.match(/^IMAGE_INVALID: .* nests indexes too deeply$/);
  });

  it('refuses layers and diff ids of different number', async () => {
    const config = image.blobs.get(image.config.digest) ?? Buffer.alloc(0);
    const document = JSON.parse(Buffer.from(config).toString());
    document.rootfs.diff_ids.pop();
    const short = Buffer.from(JSON.stringify(document));
    const mediaType = image.manifest.mediaType;
    const bytes = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType,
        config: { ...image.config, digest: digestOf(short), size: short.length },
        layers: image.layers,
      }),
    );
    const blobs = new Map(image.blobs).set(digestOf(short), short);
    await using b = await bench({ tags: new Map([['team/app:v1', { bytes, mediaType }]]), blobs });
    expect(await b.failure()).to.include('has 2 layers, but its config tells of 1');
  });

  it('does not begin when the disk is too small', async () => {
    await using b = await bench(image);
    const images = await openTestImages(b.root, { freeBytes: async () => 1000 });
    const error = await images
      .pull(
        {
          reference: `${b.registry.address}/team/app:v1`,
          insecure: false,
          dockerConfig: undefined,
          environment: new Map(),
          progress: { message: () => {}, part: () => {} },
        },
        never,
      )
      .catch((reason: unknown) => reason);
    expect(error).to.be.instanceOf(HrunError).with.property('code', 'DISK_FULL');
    expect(String(error)).to.match(/needs 30\d.*kB in .* where 1kB are free/);
  });
});

describe('a registry that wants to know who asks', () => {
  const basic = `Basic ${Buffer.from('me:secret').toString('base64')}`;
  const configFor = (address: string, password = 'secret') =>
    JSON.stringify({ auths: { [address]: { username: 'me', password } } });

  it('gets a password by basic auth', async () => {
    await using b = await bench(image, (request, response) => {
      if (request.headers.authorization === basic) return false;
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      return true;
    });
    expect(await b.failure()).to.match(/^REGISTRY_DENIED: registry .* asks for a user name and password$/);
    const wrong = await b.failure({ dockerConfig: configFor(b.registry.address, 'wrong') });
    expect(wrong).to.match(/^REGISTRY_DENIED: registry .* denies access to manifest team\/app:v1$/);
    await b.pull({ dockerConfig: configFor(b.registry.address) });
  });

  /** A registry with a token server; answers what the token server was asked. */
  async function withTokens(accept: (authorization: string | undefined, body: string) => boolean) {
    const asked: string[] = [];
    const tokens = await startHttp((request, response) => {
      let body = '';
      request.on('data', (chunk) => {
        body += chunk;
      });
      request.on('end', () => {
        asked.push(`${request.method} ${request.url} ${body}`);
        if (accept(request.headers.authorization, body))
          response.end('{"access_token":"T.o-k","expires_in":300}');
        else response.writeHead(401).end();
      });
    });
    const b = await bench(image, (request, response) => {
      if (request.url === '/v2/' || request.headers.authorization === 'Bearer T.o-k') return false;
      const challenge = `Bearer realm="http://${tokens.address}/token",service="s v",scope="repository:evil:push"`;
      response.writeHead(401, { 'www-authenticate': challenge }).end();
      return true;
    });
    return {
      b,
      asked,
      [Symbol.asyncDispose]: async () => {
        await b[Symbol.asyncDispose]();
        await tokens[Symbol.asyncDispose]();
      },
    };
  }

  it('gets an anonymous bearer token, asked for once, for this repository and reading only', async () => {
    await using t = await withTokens(() => true);
    await t.b.pull();
    expect(t.asked).to.deep.equal(['GET /token?service=s+v&scope=repository%3Ateam%2Fapp%3Apull ']);
  });

  it('gets a bearer token for a password, or for an identity token', async () => {
    await using t = await withTokens(
      (authorization, body) => authorization === basic || body.includes('refresh_token=R'),
    );
    expect(await t.b.failure()).to.match(/^REGISTRY_DENIED: .* gives anonymous users no access$/);
    const { address } = t.b.registry;
    expect(await t.b.failure({ dockerConfig: configFor(address, 'x') })).to.match(
      /^REGISTRY_DENIED: .* does not accept the stored credentials$/,
    );
    await t.b.pull({ dockerConfig: configFor(address) });
    const identity = JSON.stringify({ auths: { [address]: { identitytoken: 'R' } } });
    await t.b.pull({ dockerConfig: identity });
    expect(t.asked.at(-1)).to.match(/^POST \/token grant_type=refresh_token&refresh_token=R&/);
  });

  it('learns of tokens that are no tokens', async () => {
    for (const body of ['', '[]', '{}', '{"token":""}', '{"token":"a\\r\\nx: y"}', '{"token":7}']) {
      await using tokens = await startHttp((_, response) => void response.end(body));
      await using b = await bench(image, (request, response) => {
        if (request.url === '/v2/') return false;
        response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${tokens.address}/"` }).end();
        return true;
      });
      expect(await b.failure(), body).to.include('REGISTRY_PROTOCOL');
    }
  });

  it('is not understood when it offers nothing known', async () => {
    for (const header of [
      undefined,
      'Digest realm="x"',
      'Bearer realm="ftp://x/"',
      'Bearer service="x"',
      '"',
    ]) {
      await using b = await bench(image, (request, response) => {
        if (request.url === '/v2/') return false;
        response.writeHead(401, header === undefined ? {} : { 'www-authenticate': header }).end();
        return true;
      });
      expect(await b.failure(), header).to.include('REGISTRY_PROTOCOL');
    }
  });
});

describe('the way to a registry', () => {
  it('is TLS when a registry on loopback speaks it, whatever its certificate', async () => {
    await using directory = await temporaryDirectory();
    const [key, cert] = ['key.pem', 'cert.pem'].map((name) => join(directory.path, name));
    const subject = [
      '-subj',
      '/CN=localhost',
      '-days',
      '1',
      '-nodes',
      '-keyout',
      key ?? '',
      '-out',
      cert ?? '',
    ];
    await run('openssl', [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      ...subject,
    ]);
    const tls = { key: await readFile(key ?? ''), cert: await readFile(cert ?? '') };
    await using registry = await startFakeRegistry(contentOf(image), undefined, tls);
    await using b = await bench(image);
    await b.pull({ reference: `${registry.address}/team/app:v1` });
    expect(registry.requests).to.include('GET /v2/team/app/manifests/v1');
  });

  it('leads through the proxies that the caller uses', async () => {
    const asked: string[] = [];
    await using proxy = await startFakeRegistry(contentOf(image), (request) => {
      asked.push(`${request.url}`);
      request.url = new URL(`${request.url}`).pathname;
      return false;
    });
    await using b = await bench(image);
    const environment = new Map([
      ['http_proxy', `http://${proxy.address}`],
      ['UNRELATED', 'x'],
    ]);
    await b.pull({ reference: 'registry.invalid:5000/team/app:v1', insecure: true, environment });
    expect(asked[0]).to.equal('http://registry.invalid:5000/v2/team/app/manifests/v1');
    const none = new Map([...environment, ['no_proxy', 'registry.invalid']]);
    expect(
      await b.failure({ reference: 'registry.invalid:5000/team/app:v1', insecure: true, environment: none }),
    ).to.include('REGISTRY_UNREACHABLE');
    const https = new Map([['HTTPS_PROXY', `http://${proxy.address}`]]);
    proxy.refuseTunnels();
    expect(await b.failure({ reference: 'registry.invalid/team/app:v1', environment: https })).to.include(
      'REGISTRY_UNREACHABLE: registry registry.invalid cannot be reached',
    );
    expect(proxy.requests.at(-1)).to.equal('CONNECT registry.invalid:443');
  });

  it('is never plain http to a host elsewhere', async () => {
    await using proxy = await startFakeRegistry(contentOf(image));
    await using b = await bench(image);
    const environment = new Map([['http_proxy', `http://${proxy.address}`]]);
    await b.failure({ reference: 'registry.invalid:5000/team/app:v1', environment });
    expect(proxy.requests).to.deep.equal([]);
  });
});

describe('a redirect', () => {
  it('to another host carries no credentials', async () => {
    const seen: (string | undefined)[] = [];
    await using storage = await startHttp((request, response) => {
      seen.push(request.headers.authorization);
      response.end(image.blobs.get(`sha256:${request.url?.slice(1)}`));
    });
    await using b = await bench(image, (request, response) => {
      if (request.headers.authorization === undefined && request.url !== '/v2/') {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
        return true;
      }
      if (!isBlob(request.url)) return false;
      const hex = request.url?.split('sha256:').at(-1);
      response.writeHead(307, { location: `http://${storage.address}/${hex}` }).end();
      return true;
    });
    const dockerConfig = JSON.stringify({
      auths: { [b.registry.address]: { username: 'u', password: 'p' } },
    });
    await b.pull({ dockerConfig });
    expect(seen).to.deep.equal([undefined, undefined, undefined]);
  });

  it('in a circle, to nowhere or to another protocol is refused', async () => {
    for (const location of [
      '/v2/team/app/manifests/v1',
      'http://[',
      'file:///etc/passwd',
      'ftp://127.0.0.1/',
    ]) {
      await using b = await bench(image, (request, response) => {
        if (!isManifest(request.url)) return false;
        response.writeHead(302, { location }).end();
        return true;
      });
      expect(await b.failure(), location).to.match(/^REGISTRY_PROTOCOL: registry .* redirects/);
    }
  });
});
