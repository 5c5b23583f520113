import { setImmediate as turn } from 'node:timers/promises';
import { expect } from 'chai';
import type { ContainerConfig } from '../../../../src/runtime/containerRecord.ts';
import { FillTurns } from '../../../../src/runtime/volumes/fillTurns.ts';

type Wish = ContainerConfig['namedVolumes'][number];
const never = new AbortController().signal;

function volumes(...names: string[]): Pick<ContainerConfig, 'namedVolumes'> {
  const wish = { destination: '/v', readonly: false, nocopy: false } as Wish;
  return { namedVolumes: names.map((name) => ({ ...wish, name })) };
}

describe('turns at filling volumes', () => {
  it('come one after the other, also of who wants several, the same twice or in another order', async () => {
    const turns = new FillTurns();
    const order: string[] = [];
    const held = await turns.take(volumes('a', 'b', 'a'), never);
    const later = ['b', 'a'].map(async (name, index) => {
      using _turn = await turns.take(volumes('b', 'a'), never);
      order.push(`${name}${index}`);
    });
    await turn();
    expect(order).to.deep.equal([]);
    held[Symbol.dispose]();
    await Promise.all(later);
    expect(order).to.deep.equal(['b0', 'a1']);
  });

  it('are not needed by who cannot fill', async () => {
    const turns = new FillTurns();
    using _held = await turns.take(volumes('a'), never);
    const [wish] = volumes('a').namedVolumes;
    for (const change of [{ nocopy: true }, { readonly: true }]) {
      (await turns.take({ namedVolumes: [{ ...(wish as Wish), ...change }] }, never))[Symbol.dispose]();
    }
  });
});
