import { mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { isHrunError } from '../../../../src/base/errors.ts';
import { VolumeStore } from '../../../../src/runtime/volumes/volumeStore.ts';
import { temporaryDirectory } from '../../../helpers/tempDir.ts';

const signal = new AbortController().signal;
const mebibyte = 1024 * 1024;
const dir = { driver: 'dir', labels: {}, anonymous: false } as const;
const disk = { ...dir, driver: 'disk' } as const;

async function codeOf(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => 'nothing',
    (error: unknown) => (isHrunError(error) ? error.code : String(error)),
  );
}

describe('the volumes of a daemon', () => {
  let temporary: Awaited<ReturnType<typeof temporaryDirectory>>;
  let directory: string;
  const open = () => VolumeStore.open(directory, 100 * mebibyte);

  beforeEach(async () => {
    temporary = await temporaryDirectory();
    directory = join(temporary.path, 'volumes');
  });
  afterEach(() => temporary[Symbol.asyncDispose]());

  it('are known to the next daemon', async () => {
    const before = await open();
    await before.ensure({ ...dir, name: 'web', labels: { a: 'b' } }, signal);
    const made = await before.ensure({ ...disk, name: 'db', sizeBytes: 64 * mebibyte }, signal);
    const after = await open();
    expect(after.list().map(({ name }) => name)).to.deep.equal(['db', 'web']);
    expect(after.find('db')).to.deep.equal(made);
    expect(after.find('web').labels).to.deep.equal({ a: 'b' });
    expect((await stat(after.contentOf(after.find('web')))).mode & 0o7777).to.equal(0o755);
    expect((await stat(after.contentOf(made))).size).to.equal(64 * mebibyte);
  });

  it('are made once, and not again with other options', async () => {
    const store = await open();
    const [first, second] = await Promise.all([
      store.ensure({ ...dir, name: 'web' }, signal),
      store.ensure({ ...dir, name: 'web' }, signal),
    ]);
    expect(first).to.equal(second);
    expect(await codeOf(store.ensure({ ...disk, name: 'web' }, signal))).to.equal('ALREADY_EXISTS');
  });

  it('that were half made or half removed go when the next daemon starts', async () => {
    const store = await open();
    await store.ensure({ ...dir, name: 'web' }, signal);
    await mkdir(join(directory, '.half', '_data'), { recursive: true });
    await open();
    expect(await readdir(directory)).to.deep.equal(['web']);
  });

  it('that cannot be read are told, neither dropped nor made anew, and do not keep others from being used', async () => {
    for (const name of ['db', 'web']) await (await open()).ensure({ ...dir, name }, signal);
    await writeFile(join(directory, 'web', 'volume.json'), '{}');
    const store = await open();
    expect(store.list().map(({ name }) => name)).to.deep.equal(['db']);
    expect(store.damages.map(({ name }) => name)).to.deep.equal(['web']);
    expect(await codeOf(Promise.resolve().then(() => store.find('web')))).to.equal('STATE_DAMAGED');
    expect(await codeOf(store.ensure({ ...dir, name: 'web' }, signal))).to.equal('STATE_DAMAGED');
    await store.remove('web');
    expect(await readdir(directory)).to.deep.equal(['db']);
    expect(store.damages).to.deep.equal([]);
  });

  it('are removed with what they hold', async () => {
    const store = await open();
    const { name } = await store.ensure({ ...disk, name: 'db' }, signal);
    await store.remove(name);
    expect(await readdir(directory)).to.deep.equal([]);
    expect(await codeOf(Promise.resolve().then(() => store.find('db')))).to.equal('NOT_FOUND');
  });

  it('grow, and do not shrink', async () => {
    const store = await open();
    const volume = await store.ensure({ ...disk, name: 'db' }, signal);
    await store.grow('db', 200 * mebibyte);
    expect((await stat(store.contentOf(volume))).size).to.equal(200 * mebibyte);
    expect((await open()).find('db').sizeBytes).to.equal(200 * mebibyte);
    expect(await codeOf(store.grow('db', 64 * mebibyte))).to.equal('INVALID_ARGUMENT');
    await store.ensure({ ...dir, name: 'web' }, signal);
    expect(await codeOf(store.grow('web', 64 * mebibyte))).to.equal('INVALID_ARGUMENT');
  });

  it('leave nothing when they cannot be made', async () => {
    const store = await open();
    expect(await codeOf(store.ensure({ ...disk, name: 'db', sizeBytes: 1 }, signal))).to.equal(
      'INVALID_ARGUMENT',
    );
    expect(await codeOf(store.ensure({ ...dir, name: 'web', sizeBytes: 1 }, signal))).to.equal(
      'INVALID_ARGUMENT',
    );
    expect(await readdir(directory)).to.deep.equal([]);
  });
});
