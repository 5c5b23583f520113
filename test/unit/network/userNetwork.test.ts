import { expect } from 'chai';
import { passtArguments } from '../../../src/network/userNetwork.ts';

const port = { hostIp: '', hostPort: 8080, guestPort: 80, protocol: 'tcp' } as const;

describe('the arguments of passt', () => {
  it('name each port with its address, where it has one', () => {
    const ports = [
      port,
      { ...port, hostIp: '127.0.0.1' },
      { ...port, hostIp: '::1', protocol: 'udp' },
    ] as const;
    const words = passtArguments(new Set([4, 6]), ports, [], undefined);
    expect(words.slice(words.indexOf('--tcp-ports'))).to.deep.equal([
      ...['--tcp-ports', '8080:80', '--tcp-ports', '127.0.0.1/8080:80', '--udp-ports', '::1/8080:80'],
    ]);
  });

  it('keep the gateway from standing for the host, and give the user away only where there is one', () => {
    const words = passtArguments(new Set([4]), [], [], 77);
    expect(words).to.include.members(['--no-map-gw', '--ipv4-only', '--runas', '77:77']);
    expect(passtArguments(new Set([6]), [], [], undefined))
      .to.include('--ipv6-only')
      .and.not.include('--runas');
  });

  it('have it forward names to the servers that are meant', () => {
    const servers = [{ asked: '10.0.2.3', meant: '192.0.2.53' }];
    expect(passtArguments(new Set([4]), [], servers, undefined).join(' ')).to.contain(
      '--dns 192.0.2.53 --dns-forward 10.0.2.3',
    );
  });
});
