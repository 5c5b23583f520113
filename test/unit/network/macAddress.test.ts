import { expect } from 'chai';
import { macOf, parseMac } from '../../../src/network/macAddress.ts';

describe('MAC addresses', () => {
  it('are of one device only', () => {
    expect(parseMac('02:42:AC:11:00:02')).to.equal('02:42:ac:11:00:02');
    expect(parseMac('02-42-ac-11-00-02')).to.equal('02:42:ac:11:00:02');
    for (const text of [
      '',
      '02:42:ac:11:00',
      '03:42:ac:11:00:02',
      '00:00:00:00:00:00',
      '02:42:ac:11:00:0g',
    ]) {
      expect(() => parseMac(text), text).to.throw('MAC address');
    }
  });

  it('made for a name are always the same, and nobody’s by right', () => {
    expect(macOf('a')).to.equal(macOf('a')).and.not.equal(macOf('b'));
    for (const name of ['a', 'b', 'c', 'd', 'e']) {
      expect(parseMac(macOf(name))).to.equal(macOf(name));
      expect(Number.parseInt(macOf(name).slice(0, 2), 16) & 2).to.equal(2);
    }
  });
});
