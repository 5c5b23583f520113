import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { newContainerId } from '../../../src/base/ids.ts';
import { ContainerStore } from '../../../src/runtime/containerStore.ts';
import { containerRecord as record } from '../../helpers/containerRecord.ts';

async function rejection(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  return await promise.then(
    () => expect.fail('it did not fail'),
    (error: Error) => error,
  );
}

describe('the container store', () => {
  let directory: string;
  let store: ContainerStore;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'hrun-store-'));
    store = await ContainerStore.open(directory);
  });
  afterEach(() => rm(directory, { recursive: true }));

  it('finds containers again after a restart, with their last state', async () => {
    const one = record('one');
    await store.add(one);
    await store.update(one.id, { status: 'starting' });
    const again = await ContainerStore.open(directory);
    expect(again.find('one').state.status).to.equal('starting');
  });

  it('finds by name, id and a prefix of the id that fits only one', async () => {
    const [one, two] = [record('one'), record('two')];
    await store.add(one);
    await store.add(two);
    for (const reference of ['one', one.id, one.id.slice(0, 12)]) {
      expect(store.find(reference).id).to.equal(one.id);
    }
    expect(() => store.find('nobody')).to.throw('No such container: nobody');
  });

  it('prefers a name to the prefix of an id', async () => {
    const one = record('one');
    const other = record(one.id.slice(0, 4));
    await store.add(one);
    await store.add(other);
    expect(store.find(one.id.slice(0, 4)).id).to.equal(other.id);
  });

  it('refuses a name that is taken, and leaves nothing of the second container', async () => {
    await store.add(record('one'));
    const error = await rejection(store.add(record('one')));
    expect(error).to.include({ code: 'ALREADY_EXISTS' });
    expect(await readdir(directory)).to.have.length(1);
  });

  it('lets only one of two that come at once have the name', async () => {
    const results = await Promise.allSettled([store.add(record('one')), store.add(record('one'))]);
    expect(results.map(({ status }) => status).toSorted()).to.deep.equal(['fulfilled', 'rejected']);
  });

  it('refuses a transition that there is not', async () => {
    const one = record('one');
    await store.add(one);
    const error = await rejection(store.update(one.id, { status: 'running' }));
    expect(error).to.include({ code: 'WRONG_STATE' });
  });

  it('loses no change of two that are made at once', async () => {
    const one = record('one');
    await store.add(one);
    await Promise.all([
      store.update(one.id, { error: 'x' }),
      store.rename(one.id, 'uno'),
      store.update(one.id, { exitCode: 3 }),
    ]);
    const found = (await ContainerStore.open(directory)).find('uno');
    expect(found.state).to.include({ error: 'x', exitCode: 3 });
  });

  it('finishes a deletion and forgets a creation that a crash interrupted', async () => {
    const [doomed, unborn] = [`${newContainerId()}.removing`, newContainerId()];
    await mkdir(join(directory, doomed));
    await mkdir(join(directory, unborn));
    await ContainerStore.open(directory);
    expect(await readdir(directory)).to.deep.equal([]);
  });

  describe('with a container that cannot be read', () => {
    const [one, other] = [record('one'), record('other')];
    let path: string;

    beforeEach(async () => {
      await store.add(one);
      await store.add(other);
      path = join(directory, one.id, 'container.json');
      const text = await readFile(path, 'utf8');
      await writeFile(path, text.replace('"version":1', '"version":2'));
      store = await ContainerStore.open(directory);
    });

    it('serves the others, and names its file to who asks for it', () => {
      expect(store.list().map(({ id }) => id)).to.deep.equal([other.id]);
      expect(store.find('other').id).to.equal(other.id);
      expect(store.damages).to.have.length(1);
      for (const reference of [one.id, one.id.slice(0, 12)]) {
        expect(() => store.find(reference))
          .to.throw(path)
          .with.property('code', 'STATE_DAMAGED');
      }
    });

    it('tells who names what is not known that it may be this one', () => {
      expect(() => store.find('one'))
        .to.throw('No such container')
        .with.property('hint')
        .that.contains('doctor');
    });

    it('does not answer for what only it may use', () => {
      expect(() => store.refuseUnknownUsers('prune volumes')).to.throw(path);
    });

    it('removes it, and nothing else', async () => {
      expect(store.findDamaged('other')).to.equal(undefined);
      expect(store.findDamaged(one.id)).to.equal(one.id);
      await store.removeDamaged(one.id);
      expect(await readdir(directory)).to.deep.equal([other.id]);
      expect(store.damages).to.deep.equal([]);
      store.refuseUnknownUsers('prune volumes');
    });
  });

  it('takes a container whose record has gone for damaged, not for one that was never finished', async () => {
    const one = record('one');
    await store.add(one);
    await writeFile(join(directory, one.id, 'output.log'), '');
    await rm(join(directory, one.id, 'container.json'));
    const { damages } = await ContainerStore.open(directory);
    expect(damages.map(({ name }) => name)).to.deep.equal([one.id]);
    expect(await readdir(join(directory, one.id))).to.deep.equal(['output.log']);
  });

  it("leaves alone what is nobody's", async () => {
    await mkdir(join(directory, 'lost+found'));
    expect((await ContainerStore.open(directory)).damages).to.deep.equal([]);
    expect(await readdir(directory)).to.deep.equal(['lost+found']);
  });

  it('tells about removals', async () => {
    const one = record('one');
    await store.add(one);
    const change = store.nextChange(new AbortController().signal);
    await store.remove(one.id);
    await change;
    expect(store.get(one.id)).to.equal(undefined);
    expect(await readdir(directory)).to.deep.equal([]);
  });
});
