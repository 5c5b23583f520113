import { expect } from 'chai';
import { decode, encode } from 'dns-packet';
import fc from 'fast-check';
import type { Endpoint } from '../../../src/network/endpoint.ts';
import type { NetworkDefinition } from '../../../src/network/networkDefinition.ts';
import { addressesIn, decideQuery, failedAnswer, opensWay } from '../../../src/network/resolverAnswers.ts';

const network: NetworkDefinition = {
  version: 1,
  id: 'a'.repeat(64),
  name: 'net',
  createdAt: '',
  bridge: 'hr0',
  gateway4: '10.0.0.1/24',
  gateway6: 'fd00::1/64',
  internal: false,
  mtu: 1500,
  labels: {},
};
const web: Endpoint = {
  network: 'net',
  networkId: network.id,
  netns: '1:2',
  tap: 'hrt-1',
  slot: 0,
  mac: '02:00:00:00:00:02',
  ipv4: '10.0.0.2',
  ipv6: 'fd00::2',
  names: ['web', 'shop'],
  ports: [],
  upstream: [],
};
const closed = { ...web, egress: { allow: [{ name: 'ok.example' }, { range: '192.0.2.0/24' }] } };

function query(name: string, type: 'A' | 'AAAA' | 'PTR' | 'MX' | 'ANY' = 'A'): Buffer {
  return encode({ type: 'query', id: 77, flags: 0x100, questions: [{ name, type: type as 'A' }] });
}

function answerTo(bytes: Buffer, asker: Endpoint | undefined = web, of = network) {
  const decision = decideQuery(bytes, asker, [web], of);
  if (decision.kind !== 'answer') return decision.kind;
  const packet = decode(decision.message) as ReturnType<typeof decode> & { readonly rcode?: string };
  expect(packet.id).to.equal(77);
  const data = (packet.answers ?? []).map((record) => ('data' in record ? record.data : undefined));
  return { code: packet.rcode, data };
}

describe('the name server of a network', () => {
  it('knows the guests there, whatever the case', () => {
    expect(answerTo(query('web'))).to.deep.equal({ code: 'NOERROR', data: ['10.0.0.2'] });
    expect(answerTo(query('SHOP', 'AAAA'))).to.deep.equal({ code: 'NOERROR', data: ['fd00::2'] });
    expect(answerTo(query('web', 'MX'))).to.deep.equal({ code: 'NOERROR', data: [] });
    expect(answerTo(query('web', 'ANY'))).to.deep.equal({ code: 'NOERROR', data: ['10.0.0.2', 'fd00::2'] });
  });

  it('knows their names by their addresses, and keeps the range’s others to itself', () => {
    expect(answerTo(query('2.0.0.10.in-addr.arpa', 'PTR'))).to.deep.equal({ code: 'NOERROR', data: ['web'] });
    const v6 = `2.${'0.'.repeat(27)}0.0.d.f.ip6.arpa`;
    expect(answerTo(query(v6, 'PTR'))).to.deep.equal({ code: 'NOERROR', data: ['web'] });
    expect(answerTo(query('9.0.0.10.in-addr.arpa', 'PTR'))).to.deep.equal({ code: 'NXDOMAIN', data: [] });
    expect(answerTo(query('1.2.0.192.in-addr.arpa', 'PTR'))).to.equal('forward');
  });

  it('asks elsewhere for the rest, unless the network or the guest is closed', () => {
    expect(answerTo(query('example.com'))).to.equal('forward');
    expect(answerTo(query('example.com'), web, { ...network, internal: true })).to.include({
      code: 'NXDOMAIN',
    });
    expect(answerTo(query('example.com'), closed)).to.include({ code: 'NXDOMAIN' });
    expect(answerTo(query('OK.example'), closed)).to.equal('forward');
    expect(answerTo(query('web'), closed)).to.deep.equal({ code: 'NOERROR', data: ['10.0.0.2'] });
    expect([
      opensWay(closed, 'ok.example'),
      opensWay(closed, 'web'),
      opensWay(web, 'ok.example'),
    ]).to.deep.equal([true, false, false]);
  });

  it('refuses strangers, and does not answer what is no query', () => {
    const decision = decideQuery(query('web'), undefined, [web], network);
    expect(decision.kind === 'answer' && decode(decision.message)).to.include({ rcode: 'REFUSED' });
    const response = encode({ type: 'response', id: 77, questions: [{ name: 'web', type: 'A' }] });
    expect(answerTo(response)).to.equal('drop');
    expect(answerTo(Buffer.alloc(12))).to.equal('drop');
    expect(failedAnswer(Buffer.alloc(3))).to.equal(undefined);
    const failed = failedAnswer(query('x'));
    expect(failed && decode(failed)).to.include({ rcode: 'SERVFAIL', id: 77 });
  });

  it('survives whatever bytes come', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        decideQuery(Buffer.from(bytes), web, [web], network);
        failedAnswer(Buffer.from(bytes));
        addressesIn(Buffer.from(bytes));
      }),
    );
    const good = query('web');
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), (at, value) => {
        const changed = Buffer.from(good);
        changed[at] = value;
        decideQuery(changed, web, [web], network);
      }),
    );
  });

  it('finds the addresses in an answer', () => {
    const answers = [
      { type: 'CNAME' as const, name: 'a', ttl: 5, data: 'b' },
      { type: 'A' as const, name: 'b', ttl: 60, data: '192.0.2.7' },
      { type: 'AAAA' as const, name: 'b', ttl: 9, data: '2001:db8::7' },
    ];
    expect(addressesIn(encode({ type: 'response', id: 1, answers }))).to.deep.equal([
      { address: '192.0.2.7', ttlSeconds: 60 },
      { address: '2001:db8::7', ttlSeconds: 9 },
    ]);
  });
});
