import { expect } from 'chai';
import { KeyedMutex, Mutex } from '../../../src/base/mutex.ts';

const never = new AbortController().signal;

describe('a mutex', () => {
  it('lets one in at a time, in order', async () => {
    const mutex = new Mutex();
    const seen: string[] = [];
    const worker = async (name: string) => {
      using _held = await mutex.lock(never);
      seen.push(`${name}+`);
      await Promise.resolve();
      seen.push(`${name}-`);
    };
    await Promise.all(['a', 'b', 'c'].map(worker));
    expect(seen).to.deep.equal(['a+', 'a-', 'b+', 'b-', 'c+', 'c-']);
  });

  it('is left by one who gave up waiting, without letting its successor in too early', async () => {
    const mutex = new Mutex();
    const first = await mutex.lock(never);
    const impatient = new AbortController();
    const second = mutex.lock(impatient.signal).catch((reason: unknown) => reason);
    let entered = false;
    const third = mutex.lock(never).then((held) => {
      entered = true;
      return held;
    });
    impatient.abort('enough');
    expect(await second).to.equal('enough');
    expect(entered).to.equal(false);
    first[Symbol.dispose]();
    (await third)[Symbol.dispose]();
  });

  it('is not taken by one whose signal fired before', async () => {
    const mutex = new Mutex();
    expect(await mutex.lock(AbortSignal.abort('no')).catch((reason: unknown) => reason)).to.equal('no');
    (await mutex.lock(never))[Symbol.dispose]();
  });

  it('per key keeps strangers apart and forgets keys', async () => {
    const mutex = new KeyedMutex<string>();
    const a = await mutex.lock('a', never);
    const b = await mutex.lock('b', never);
    let entered = false;
    const again = mutex.lock('a', never).then((held) => {
      entered = true;
      return held;
    });
    await Promise.resolve();
    expect(entered).to.equal(false);
    a[Symbol.dispose]();
    (await again)[Symbol.dispose]();
    b[Symbol.dispose]();
    expect(mutex.size).to.equal(0);
  });
});
