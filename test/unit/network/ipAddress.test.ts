import { expect } from 'chai';
import fc from 'fast-check';
import {
  addressAt,
  contains,
  formatIp,
  formatPrefix,
  ipBytes,
  ipFromBytes,
  networkOf,
  overlaps,
  parseIp,
  parsePrefix,
  readIp,
  sameIp,
  sizeOf,
} from '../../../src/network/ipAddress.ts';

const prefix = (text: string) => parsePrefix(text, 'the range');
const ip = (text: string) => parseIp(text, 'the address');

describe('IP addresses', () => {
  it('are written the usual way', () => {
    const pairs = [
      ['10.0.0.1', '10.0.0.1'],
      ['255.255.255.255', '255.255.255.255'],
      ['fd00:0:0:0:0:0:0:1', 'fd00::1'],
      ['0:0:0:0:0:0:0:0', '::'],
      ['::1', '::1'],
      ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
      ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
      ['::ffff:1.2.3.4', '::ffff:102:304'],
      ['fe80::', 'fe80::'],
    ] as const;
    for (const [text, usual] of pairs) expect(formatIp(ip(text)), text).to.equal(usual);
  });

  it('survive their notation and their bytes', () => {
    const v6 = fc.bigInt(0n, (1n << 128n) - 1n).map((value) => ({ family: 6 as const, value }));
    const v4 = fc.bigInt(0n, (1n << 32n) - 1n).map((value) => ({ family: 4 as const, value }));
    fc.assert(
      fc.property(fc.oneof(v4, v6), (address) => {
        expect(sameIp(ip(formatIp(address)), address)).to.equal(true);
        expect(ipFromBytes(ipBytes(address))).to.deep.equal(address);
      }),
    );
  });

  it('are told from everything else', () => {
    for (const text of ['', '1.2.3', '1.2.3.4.5', '256.1.1.1', 'fe80::1%eth0', ':::', 'x', '01.2.3.4 ']) {
      expect(readIp(text), text).to.equal(undefined);
      expect(() => ip(text), text).to.throw(`the address "${text}"`);
    }
    for (const text of [
      '10.0.0.0/33',
      '10.0.0.0/',
      '10.0.0.0/-1',
      '10.0.0.0/8/8',
      'fd00::/129',
      'x/8',
      '/8',
    ]) {
      expect(() => prefix(text), text).to.throw(`the range "${text}"`);
    }
  });

  it('lie in ranges that may overlap', () => {
    expect(formatPrefix(networkOf(prefix('172.17.42.1/16')))).to.equal('172.17.0.0/16');
    expect(formatPrefix(networkOf(prefix('fd00:1::42/64')))).to.equal('fd00:1::/64');
    expect(formatPrefix(networkOf(prefix('1.2.3.4/0')))).to.equal('0.0.0.0/0');
    expect(contains(prefix('172.17.0.0/16'), ip('172.17.255.255'))).to.equal(true);
    expect(contains(prefix('172.17.0.0/16'), ip('172.18.0.0'))).to.equal(false);
    expect(contains(prefix('0.0.0.0/0'), ip('::1'))).to.equal(false);
    expect(overlaps(prefix('10.0.0.0/8'), prefix('10.5.0.0/16'))).to.equal(true);
    expect(overlaps(prefix('10.5.0.0/16'), prefix('10.0.0.0/8'))).to.equal(true);
    expect(overlaps(prefix('10.5.0.0/16'), prefix('10.6.0.0/16'))).to.equal(false);
    expect(formatIp(addressAt(prefix('10.5.7.0/16'), 258n))).to.equal('10.5.1.2');
    expect(sizeOf(prefix('10.0.0.0/30'))).to.equal(4n);
    expect(sizeOf(prefix('10.0.0.1'))).to.equal(1n);
  });
});
