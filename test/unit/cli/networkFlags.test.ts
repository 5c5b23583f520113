import { expect } from 'chai';
import { parseNetwork } from '../../../src/cli/parse/networkFlag.ts';
import { parseEgress, parseExtraHost, parseRate } from '../../../src/cli/parse/networks.ts';
import { parsePublish } from '../../../src/cli/parse/ports.ts';

const port = (guestPort: number, change: object = {}) => ({
  hostIp: '',
  guestPort,
  protocol: 'tcp',
  ...change,
});
const exactly = (first: number) => ({ hostPorts: { first, last: first } });

describe('the options about networks', () => {
  it('take ports as Docker does', () => {
    const pairs: readonly [string, object[]][] = [
      ['80', [port(80)]],
      ['8080:80', [port(80, exactly(8080))]],
      ['8080:80/udp', [port(80, { ...exactly(8080), protocol: 'udp' })]],
      ['127.0.0.1:8080:80', [port(80, { ...exactly(8080), hostIp: '127.0.0.1' })]],
      ['127.0.0.1::80', [port(80, { hostIp: '127.0.0.1' })]],
      ['[::1]:8080:80', [port(80, { ...exactly(8080), hostIp: '::1' })]],
      ['8000-8001:80-81', [port(80, exactly(8000)), port(81, exactly(8001))]],
      ['8000-8010:80', [port(80, { hostPorts: { first: 8000, last: 8010 } })]],
      ['80-81', [port(80), port(81)]],
    ];
    for (const [text, wishes] of pairs) expect(parsePublish(text), text).to.deep.equal(wishes);
    for (const text of [
      '',
      'x',
      '0:80',
      '80:65536',
      '1.2.3:80:80',
      '80:80:80:80',
      '80/icmp',
      '1-2:3-5',
      '8080:',
      ':',
    ]) {
      expect(() => parsePublish(text), text).to.throw(`invalid port "${text}"`);
    }
  });

  it('take what may be reached', () => {
    expect(parseEgress('all')).to.equal(undefined);
    expect(parseEgress('none')).to.deep.equal({ allow: [] });
    expect(parseEgress('allow=10.1.2.3/8,192.0.2.1:443,Example.com:80,[fd00::/8]:53,host')).to.deep.equal({
      allow: [
        { range: '10.0.0.0/8' },
        { range: '192.0.2.1/32', port: 443 },
        { name: 'example.com', port: 80 },
        { range: 'fd00::/8', port: 53 },
        { name: 'host' },
      ],
    });
    for (const text of [
      '',
      'some',
      'allow=',
      'allow=10.0.0.0/33',
      'allow=a b',
      'allow=x:99999',
      'allow=-x',
      'allow=a,,b',
    ]) {
      expect(() => parseEgress(text), text).to.throw();
    }
  });

  it('take a network with what is wished for in it', () => {
    expect(parseNetwork('shop')).to.deep.equal({ network: 'shop', aliases: [] });
    expect(
      parseNetwork('name=shop,alias=A,ip=10.0.0.7,"alias=b",ip6=FD00::0:1,mac-address=02-00-00-00-00-0A'),
    ).to.deep.equal({
      network: 'shop',
      aliases: ['a', 'b'],
      ipv4: '10.0.0.7',
      ipv6: 'fd00::1',
      mac: '02:00:00:00:00:0a',
    });
    for (const text of [
      'ip=10.0.0.7',
      'name=',
      'name=a,ip=',
      'name=a,ip=x',
      'name=a,b',
      'name=a,ip=10.0.0.7,ip=10.0.0.8',
      'name=a,link-local-ip=169.254.0.7',
      'name=a,mac-address=1',
    ]) {
      expect(() => parseNetwork(text), text).to.throw();
    }
  });

  it('take further hosts and a rate', () => {
    expect(parseExtraHost('a:1.2.3.4')).to.deep.equal({ name: 'a', address: '1.2.3.4' });
    expect(parseExtraHost('a=[::1]')).to.deep.equal({ name: 'a', address: '::1' });
    expect(parseExtraHost('a:::1')).to.deep.equal({ name: 'a', address: '::1' });
    expect(parseExtraHost('a:host-gateway')).to.deep.equal({ name: 'a', address: 'host-gateway' });
    for (const text of ['', 'a', ':1.2.3.4', 'a:b', 'a b:1.2.3.4']) {
      expect(() => parseExtraHost(text), text).to.throw();
    }
    expect(parseRate('1m/s')).to.equal(1024 * 1024);
  });
});
