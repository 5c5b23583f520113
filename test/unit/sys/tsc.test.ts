import { expect } from 'chai';
import { tscKhz } from '../../../src/sys/tsc.ts';

describe('tscKhz', () => {
  it('is a plausible frequency, measured once, or unknown', async () => {
    const first = await tscKhz();
    expect(first ?? 1_000_000).to.be.within(100_000, 20_000_000);
    expect(await tscKhz()).to.equal(first);
  });
});
