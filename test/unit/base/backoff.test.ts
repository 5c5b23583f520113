import { expect } from 'chai';
import { backoff } from '../../../src/base/backoff.ts';

describe('backoff', () => {
  it('ends with the reason of the signal', async () => {
    const controller = new AbortController();
    const waiting = backoff(60_000, 60_000).pause(controller.signal);
    controller.abort('stop');
    expect(await waiting.catch((reason: unknown) => reason)).to.equal('stop');
    expect(
      await backoff(1, 1)
        .pause(controller.signal)
        .catch((reason: unknown) => reason),
    ).to.equal('stop');
  });

  it('doubles up to its limit', async () => {
    const { pause } = backoff(1, 4);
    const before = performance.now();
    for (let i = 0; i < 5; i++) await pause(new AbortController().signal);
    expect(performance.now() - before).to.be.within(12, 2000); // 1 + 2 + 4 + 4 + 4, less timer rounding
  });
});
