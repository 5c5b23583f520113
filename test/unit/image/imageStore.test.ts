import { readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { HrunError } from '../../../src/base/errors.ts';
import type { Images } from '../../../src/image/images.ts';
import { noProgress } from '../../../src/image/progress.ts';
import { imageDetails, imageHistory, imageRows } from '../../../src/image/views.ts';
import { buildImage, layoutFiles, streamOf, type TestImage, tarOf } from '../../helpers/images.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';
import { filesOf, never, openTestImages } from '../../helpers/testImages.ts';

const shared = tarOf([{ name: 'shared', content: 'shared' }]);
const one = buildImage({ layers: [{ tar: shared }], config: { Cmd: ['one'], Labels: { a: 'b' } } });
const two = buildImage({
  layers: [{ tar: shared }, { tar: tarOf([{ name: 'two', content: '2' }]) }],
  config: { Cmd: ['two'] },
});

async function load(images: Images, image: TestImage, name?: string) {
  const files = layoutFiles([{ image, ...(name !== undefined && { name }) }]);
  const bytes = streamOf(tarOf([...files].map(([path, content]) => ({ name: path, content }))));
  const [loaded] = await images.load(
    { source: { kind: 'archive', name: 't', bytes }, progress: noProgress },
    never,
  );
  return loaded ?? expect.fail('nothing loaded');
}

async function failure(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof HrunError)) throw error;
    return `${error.code}: ${error.message}`;
  }
  return expect.fail('it succeeded');
}

describe('the image store', () => {
  it('finds by name, id and the start of an id', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const { store } = images;
    const { id } = await load(images, one, 'team/app:v1');
    for (const text of [
      'team/app:v1',
      'docker.io/team/app:v1',
      id,
      id.slice(7),
      id.slice(7, 9),
      id.slice(0, 20),
    ]) {
      expect(store.find(text)?.id, text).to.equal(id);
    }
    expect(store.find('team/app')).to.equal(undefined);
    expect(store.find('sha256:zz')).to.equal(undefined);
    expect(await failure(() => store.get('nothing'))).to.equal('IMAGE_UNKNOWN: no image "nothing" is here');
    expect(await failure(() => store.find('a b'))).to.include('INVALID_ARGUMENT');
  });

  it('refuses a prefix of several ids, and prefers a name that looks like an id', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const byDigit = new Map<string, string[]>();
    for (let count = 0; count < 17; count += 1) {
      const { id } = await load(images, buildImage({ layers: [], config: { Cmd: [`${count}`] } }));
      byDigit.set(`${id[7]}`, [...(byDigit.get(`${id[7]}`) ?? []), id]);
    }
    const [digit = ''] = [...byDigit].find(([, ids]) => ids.length > 1) ?? [];
    expect(await failure(() => images.store.find(digit))).to.match(/is the start of \d+ image ids/);
    const { id } = await load(images, one);
    await images.store.tag(id, digit, never);
    expect(images.store.find(digit)?.id).to.equal(id);
  });

  it('gives a name to one image only', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const first = await load(images, one, 'app:latest');
    const second = await load(images, two, 'app:latest');
    expect(images.store.get('app').id).to.equal(second.id);
    expect(images.store.byId(first.id).names).to.deep.equal([]);
    await images.store.tag(first.id, 'app:latest', never);
    expect(images.store.byId(second.id).names).to.deep.equal([]);
    expect(await failure(() => images.store.tag('app', `x@${one.config.digest}`, never))).to.include(
      'INVALID_ARGUMENT',
    );
    expect(await failure(() => images.store.tag('gone', 'x', never))).to.include('IMAGE_UNKNOWN');
  });

  it('removes names first, then the image and what only it needed', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    await load(images, one, 'app:1');
    const { id } = await load(images, two, 'app:2');
    await images.store.tag('app:2', 'app:two', never);
    await writeFile(images.store.diskPathOf(images.store.get('app:2').chainId), 'x'.repeat(10_000));
    const untagged = await images.store.remove('app:two', { force: false }, never);
    expect(untagged).to.deep.include({ untagged: ['docker.io/library/app:two'], deleted: [] });
    const removed = await images.store.remove('app:2', { force: false }, never);
    expect(removed).to.deep.include({ untagged: ['docker.io/library/app:2'], deleted: [id] });
    expect(removed.reclaimedBytes).to.be.greaterThan(10_000);
    expect(await filesOf(directory.path)).to.deep.equal(
      [...one.blobs.keys()].map((digest) => `blobs/${digest.replace(':', '/')}`).sort(),
    );
    const reopened = await openTestImages(directory.path);
    expect(reopened.store.list().map(({ names }) => names)).to.deep.equal([['docker.io/library/app:1']]);
  });

  it('removes by id only what has one name, unless forced', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const { id } = await load(images, one, 'app:1');
    await images.store.tag(id, 'app:2', never);
    expect(await failure(() => images.store.remove(id.slice(7, 19), { force: false }, never))).to.match(
      /^IMAGE_IN_USE: image [0-9a-f]{12} has 2 names$/,
    );
    const removed = await images.store.remove(id.slice(7, 19), { force: true }, never);
    expect(removed.deleted).to.deep.equal([id]);
    expect(await filesOf(directory.path)).to.deep.equal([]);
  });

  it('keeps what a container needs', async () => {
    await using directory = await temporaryDirectory();
    const users = ['web', 'db'];
    const images = await openTestImages(directory.path, { containersOf: () => users });
    const { id } = await load(images, one, 'app:1');
    expect(await failure(() => images.store.remove('app:1', { force: false }, never))).to.equal(
      'IMAGE_IN_USE: image docker.io/library/app:1 is needed by web, db',
    );
    const forced = await images.store.remove('app:1', { force: true }, never);
    expect(forced).to.deep.include({ untagged: ['docker.io/library/app:1'], deleted: [] });
    expect(await failure(() => images.store.remove(id, { force: true }, never))).to.include('IMAGE_IN_USE');
    expect((await images.store.prune({ all: true }, never)).deleted).to.deep.equal([]);
    users.length = 0;
    {
      using _lease = images.store.lease(id);
      expect((await images.store.prune({ all: true }, never)).deleted).to.deep.equal([]);
    }
    expect((await images.store.prune({ all: false }, never)).deleted).to.deep.equal([id]);
    expect(await filesOf(directory.path)).to.deep.equal([]);
  });

  it('prunes images without a name, or all, and unfinished downloads', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    const named = await load(images, one, 'app:1');
    const dangling = await load(images, two);
    await writeFile(join(directory.path, 'images/partial', 'c'.repeat(64)), 'x'.repeat(1000));
    const some = await images.store.prune({ all: false }, never);
    expect(some.deleted).to.deep.equal([dangling.id]);
    expect(some.reclaimedBytes).to.be.greaterThan(1000);
    expect(await readdir(join(directory.path, 'images/partial'))).to.deep.equal([]);
    expect((await images.store.prune({ all: true }, never)).deleted).to.deep.equal([named.id]);
    expect((await images.store.prune({ all: true }, never)).reclaimedBytes).to.equal(0);
  });

  it('cleans up after a crash', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    await load(images, one, 'app:1');
    const at = (path: string) => join(directory.path, 'images', path);
    await writeFile(at('tmp/half'), 'half');
    await writeFile(at(`partial/${'d'.repeat(64)}`), 'fresh');
    await writeFile(at(`partial/${'e'.repeat(64)}`), 'old');
    await utimes(at(`partial/${'e'.repeat(64)}`), 0, 0);
    await writeFile(at(`blobs/sha256/${'f'.repeat(64)}`), 'an image that was never recorded');
    await writeFile(at('disks/not-referenced.ext4'), 'x');
    const reopened = await openTestImages(directory.path);
    expect(await readdir(at('tmp'))).to.deep.equal([]);
    expect(await readdir(at('partial'))).to.deep.equal(['d'.repeat(64)]);
    await reopened.store.collect({ partial: false }, never);
    expect((await filesOf(directory.path)).filter((path) => !path.startsWith('partial/'))).to.have.lengthOf(
      one.blobs.size,
    );
    expect(reopened.store.get('app:1').id).to.equal(one.config.digest);
  });

  it('leaves out an image whose config rotted, and waits for an index that can be read', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    await load(images, one, 'app:1');
    await load(images, two, 'app:2');
    await writeFile(images.store.blobs.pathOf(images.store.get('app:1').id), '{}');
    const warnings: string[] = [];
    const reopened = await openTestImages(directory.path, {
      log: { warn: (_, message) => warnings.push(message) },
    });
    expect(reopened.store.list().map(({ names }) => names)).to.deep.equal([['docker.io/library/app:2']]);
    expect(warnings).to.have.lengthOf(1);
    const index = join(directory.path, 'images/index.json');
    const whole = await readFile(index, 'utf8');
    await writeFile(index, whole.slice(0, -20));
    const { store } = await openTestImages(directory.path);
    expect(store.damages.map(({ path }) => path)).to.deep.equal([index]);
    const refused = /^STATE_DAMAGED: the image index is damaged: .*index.json cannot be read/;
    for (const use of [
      async () => store.list(),
      async () => store.get('app:2'),
      () => store.tag('app:2', 'app:3', never),
      () => store.collect({ partial: true }, never),
      () => store.ready(never),
    ]) {
      expect(await failure(use)).to.match(refused);
    }
    await writeFile(index, whole);
    await store.ready(never);
    expect(store.list()).to.have.lengthOf(1);
  });

  it('sweeps nothing that is being stored', async () => {
    await using directory = await temporaryDirectory();
    const { store } = await openTestImages(directory.path);
    using hold = store.blobs.hold();
    const stored = await store.blobs.write([Buffer.from('held')], { subject: 'x' }, hold, never);
    await store.collect({ partial: false }, never);
    expect(await store.blobs.sizeOf(stored.digest)).to.equal(4);
    hold[Symbol.dispose]();
    await store.collect({ partial: false }, never);
    expect(await store.blobs.sizeOf(stored.digest)).to.equal(undefined);
  });
});

describe('views of an image', () => {
  it('show it as Docker does', async () => {
    await using directory = await temporaryDirectory();
    const images = await openTestImages(directory.path);
    await load(images, two, 'host.example/app:v1');
    const image = await images.store.tag('host.example/app:v1', 'app', never);
    const details = imageDetails(image);
    expect(details.names).to.deep.equal(['app:latest', 'host.example/app:v1']);
    expect(details.config.cmd).to.deep.equal(['two']);
    expect(details.createdAt).to.equal('2024-05-06T07:08:09Z');
    expect(details.diffIds).to.deep.equal(two.diffIds);
    expect(imageRows(image).map(({ repository, tag }) => `${repository} ${tag}`)).to.deep.equal([
      'app latest',
      'host.example/app v1',
    ]);
    const history = imageHistory(image);
    expect(history.map(({ createdBy }) => createdBy)).to.deep.equal(['layer 1', 'layer 0']);
    expect(history.map(({ sizeBytes }) => sizeBytes)).to.deep.equal([
      two.layers[1]?.size,
      two.layers[0]?.size,
    ]);
    const { id } = await load(images, one);
    expect(imageRows(images.store.byId(id))).to.have.lengthOf(1);
  });
});
