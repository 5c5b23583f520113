import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { NetworkStore } from '../../../src/network/networkStore.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

const builtIn = {
  version: 1,
  id: '0'.repeat(64),
  name: 'bridge',
  createdAt: '2026-01-01T00:00:00Z',
  bridge: 'hrun0',
  gateway4: '10.213.0.1/16',
  internal: false,
  mtu: 1500,
  labels: {},
} as const;

describe('a network that cannot be read', () => {
  it('is told of, leaves the others in use, and can be removed', async () => {
    await using directory = await temporaryDirectory();
    const open = () => NetworkStore.open(directory.path, builtIn);
    const request = { subnets: [], gateways: [], ipv6: false, internal: false, mtu: 1500, labels: {} };
    const before = await open();
    const lost = await before.create({ ...request, name: 'lost' }, () => undefined);
    // its name is the beginning of the other's id
    const name = lost.id.slice(0, 12);
    await before.create({ ...request, name }, () => undefined);
    const path = join(directory.path, `${lost.id}.json`);
    await writeFile(path, '{');
    const store = await open();
    expect(store.list().map((network) => network.name)).to.have.members(['bridge', name]);
    expect(() => store.find(lost.id))
      .to.throw(path)
      .with.property('code', 'STATE_DAMAGED');
    expect(() => store.find('lost'))
      .to.throw('not found')
      .with.property('hint')
      .that.contains('doctor');
    expect(store.find(name).name).to.equal(name);
    expect(store.findDamaged(name)).to.equal(undefined);
    const damage = store.findDamaged(lost.id.slice(0, 20));
    if (damage === undefined) expect.fail('it is not among the damaged');
    await store.removeDamaged(damage);
    expect(await readdir(directory.path)).to.have.length(1);
    expect(store.damages).to.deep.equal([]);
  });
});
