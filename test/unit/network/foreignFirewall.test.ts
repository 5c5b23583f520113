import { expect } from 'chai';
import { closedChains } from '../../../src/network/foreignFirewall.ts';

const chain = (family: string, table: string, name: string, more: object = {}) => ({
  chain: { family, table, name, handle: 1, ...more },
});
const forward = (policy: string) => ({ type: 'filter', hook: 'forward', prio: 0, policy });
const rule = (family: string, table: string, of: string, ...expr: object[]) => ({
  rule: { family, table, chain: of, handle: 1, expr },
});
const named = (key: string, right: string) => ({ match: { op: '==', left: { meta: { key } }, right } });
const counter = { counter: { packets: 0, bytes: 0 } };
const accept = { accept: null };
const found = (...objects: object[]) => closedChains({ nftables: [{ metainfo: {} }, ...objects] });

describe('firewalls of others', () => {
  it('are open when nothing drops what is passed on', () => {
    expect(found()).to.deep.equal([]);
    expect(found(chain('inet', 'hrun0', 'forward', forward('accept')))).to.deep.equal([]);
    expect(found(chain('ip', 'filter', 'INPUT', { hook: 'input', policy: 'drop' }))).to.deep.equal([]);
    const some = rule('ip', 'filter', 'FORWARD', named('iifname', 'eth0'), counter, { drop: null });
    expect(found(chain('ip', 'filter', 'FORWARD', forward('accept')), some)).to.deep.equal([]);
  });

  it('are closed by a policy or by a last rule, and opened by the tool that made them', () => {
    expect(
      found(chain('ip', 'filter', 'FORWARD', forward('drop')), chain('ip', 'filter', 'DOCKER-USER')),
    ).to.deep.equal([
      {
        name: 'ip filter FORWARD',
        commands: [
          'iptables -I DOCKER-USER -i hrt-+ -j ACCEPT',
          'iptables -I DOCKER-USER -o hrt-+ -j ACCEPT',
        ],
      },
    ]);
    const last = rule('ip6', 'filter', 'FORWARD', counter, { reject: { type: 'icmpv6' } });
    expect(found(chain('ip6', 'filter', 'FORWARD', forward('accept')), last)[0]?.commands[0]).to.equal(
      'ip6tables -I FORWARD -i hrt-+ -j ACCEPT',
    );
    expect(found(chain('inet', 'mine', 'fwd', forward('drop')))[0]?.commands).to.deep.equal([
      `nft insert rule inet mine fwd iifname '"hrt-*"' accept`,
      `nft insert rule inet mine fwd oifname '"hrt-*"' accept`,
    ]);
  });

  it('are open again, in each direction, by a rule for all taps and nothing else', () => {
    const closed = chain('ip', 'filter', 'FORWARD', forward('drop'));
    const from = rule('ip', 'filter', 'DOCKER-USER', named('iifname', 'hrt-*'), counter, accept);
    const to = rule('ip', 'filter', 'DOCKER-USER', named('oifname', 'hrt-*'), counter, accept);
    expect(found(closed, from, to)).to.deep.equal([]);
    expect(found(closed, from)[0]?.commands).to.deep.equal(['iptables -I FORWARD -o hrt-+ -j ACCEPT']);
    const narrow = rule(
      'ip',
      'filter',
      'FORWARD',
      named('iifname', 'hrt-*'),
      named('oifname', 'eth0'),
      accept,
    );
    expect(found(closed, narrow, to)[0]?.commands).to.have.length(1);
    const elsewhere = rule('ip', 'nat', 'DOCKER-USER', named('iifname', 'hrt-*'), accept);
    expect(found(closed, elsewhere, to)[0]?.commands).to.have.length(1);
  });

  it('are not guessed at', () => {
    expect(() => closedChains({ nftables: 'none' })).to.throw('not understood');
  });
});
