import { expect } from 'chai';
import { Semaphore } from '../../../src/base/semaphore.ts';

const never = new AbortController().signal;

describe('a semaphore', () => {
  it('lets as many in as it has places, and the others in the order of asking', async () => {
    const semaphore = new Semaphore(2);
    const order: string[] = [];
    const [a, b] = [await semaphore.enter(never), await semaphore.enter(never)];
    const enter = async (name: string) => {
      const place = await semaphore.enter(never);
      order.push(name);
      return place;
    };
    const [c, d] = [enter('c'), enter('d')];
    expect(order).to.deep.equal([]);
    a[Symbol.dispose]();
    a[Symbol.dispose]();
    (await c)[Symbol.dispose]();
    await d;
    expect(order).to.deep.equal(['c', 'd']);
    b[Symbol.dispose]();
  });

  it('keeps no place for who gave up', async () => {
    const semaphore = new Semaphore(1);
    const first = await semaphore.enter(never);
    const givesUp = new AbortController();
    const second = semaphore.enter(givesUp.signal);
    const third = semaphore.enter(never);
    givesUp.abort(new Error('enough'));
    expect(await second.catch((error: unknown) => error)).to.have.property('message', 'enough');
    first[Symbol.dispose]();
    (await third)[Symbol.dispose]();
  });
});
