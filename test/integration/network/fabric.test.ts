import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { silentLog } from '../../../src/base/log.ts';
import type { AttachRequest } from '../../../src/network/attachRequest.ts';
import { Fabric } from '../../../src/network/fabric.ts';
import type { NetworkDefinition } from '../../../src/network/networkDefinition.ts';
import { openNetNamespace } from '../../../src/sys/netNamespace.ts';
import { newNetns, type TestNetns } from '../../helpers/netns.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

const soon = () => AbortSignal.timeout(30_000);

const testNetwork: NetworkDefinition = {
  version: 1,
  id: 'a'.repeat(64),
  name: 'bridge',
  createdAt: '2026-01-01T00:00:00.000Z',
  bridge: 'hrun0',
  gateway4: '10.213.0.1/16',
  gateway6: 'fd68:7275:6e00::1/64',
  internal: false,
  mtu: 1500,
  labels: {},
};

const request: AttachRequest = {
  network: testNetwork,
  container: 'c'.repeat(64),
  slot: 0,
  names: ['web'],
  ports: [],
  upstream: [],
};
const port = { hostIp: '', guestPort: 80, protocol: 'tcp' } as const;

describe('the fabric of a namespace', () => {
  let host: TestNetns;
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
  let before: string;

  beforeEach(async () => {
    host = await newNetns();
    directory = await temporaryDirectory();
    before = host.snapshot();
  });
  afterEach(async () => {
    expect(host.snapshot()).to.equal(before);
    expect(await readdir(directory.path)).to.deep.equal([]);
    await host[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });

  const open = (settings = {}) =>
    new Fabric(
      openNetNamespace(`/proc/${host.pid}/ns/net`),
      join(directory.path, 'record.json'),
      { owner: 'hrun:test', table: 'hrun0', log: silentLog },
      settings,
    );

  const failureOf = async (promise: Promise<AsyncDisposable>) => {
    try {
      await using _done = await promise;
    } catch (error) {
      return error;
    }
    throw new Error('it did not fail');
  };

  it('gives each guest an address of its own and takes everything back', async () => {
    const fabric = open();
    await using a = await fabric.attach(request, soon());
    await using b = await fabric.attach({ ...request, names: ['db'] }, soon());
    expect([a, b].map(({ endpoint }) => endpoint.ipv4)).to.deep.equal(['10.213.0.2', '10.213.0.3']);
    expect([a, b].map(({ endpoint }) => endpoint.ipv6)).to.deep.equal([
      'fd68:7275:6e00::2',
      'fd68:7275:6e00::3',
    ]);
    expect(host.run('ip', 'addr', 'show', 'hrun0')).to.contain('10.213.0.1/16');
    expect(host.run('nft', 'list', 'ruleset')).to.contain(a.endpoint.tap);
    expect(host.run('cat', '/proc/sys/net/ipv4/ip_forward').trim()).to.equal('1');
  });

  it('refuses what it cannot give, and leaves nothing of it', async () => {
    const fabric = open();
    await using _first = await fabric.attach(
      { ...request, ipv4: '10.213.7.7', mac: '02:00:00:00:00:77' },
      soon(),
    );
    const during = host.snapshot();
    const cases = [
      [{ ipv4: '10.213.7.7' }, 'ALREADY_EXISTS', '10.213.7.7'],
      [{ ipv4: '10.213.0.1' }, 'ALREADY_EXISTS', '10.213.0.1'],
      [{ ipv4: '10.214.0.2' }, 'INVALID_ARGUMENT', '10.213.0.0/16'],
      [{ ipv4: '10.213.255.255' }, 'INVALID_ARGUMENT', '10.213.255.255'],
      [{ ipv6: 'fd00::1' }, 'INVALID_ARGUMENT', 'fd00::1'],
      [{ mac: '02:00:00:00:00:77' }, 'ALREADY_EXISTS', '02:00:00:00:00:77'],
      [
        { ports: [{ ...port, hostIp: '192.0.2.9', hostPorts: { first: 80, last: 80 } }] },
        'INVALID_ARGUMENT',
        '192.0.2.9',
      ],
    ] as const;
    for (const [change, code, text] of cases) {
      const error = await failureOf(fabric.attach({ ...request, ...change }, soon()));
      expect(error, text).to.have.property('code', code);
      expect(error).to.have.property('message').that.contains(text);
    }
    expect(host.snapshot()).to.equal(during);
  });

  it('says which port is in use, before anything else, and finds free ones', async () => {
    const fabric = open();
    const fixed = { ...port, hostPorts: { first: 8080, last: 8080 } };
    await using first = await fabric.attach({ ...request, ports: [fixed] }, soon());
    expect(first.endpoint.ports).to.deep.equal([{ ...port, hostPort: 8080 }]);
    const taken = await failureOf(fabric.attach({ ...request, ports: [fixed] }, soon()));
    expect(taken).to.have.property('code', 'PORT_IN_USE');
    expect(taken).to.have.property('message', 'Bind for 0.0.0.0:8080 failed: port is already allocated');
    const loose = { ...port, hostPorts: { first: 8080, last: 8082 } };
    await using second = await fabric.attach({ ...request, ports: [loose, port] }, soon());
    expect(second.endpoint.ports[0]?.hostPort).to.equal(8081);
    expect(second.endpoint.ports[1]?.hostPort).to.be.greaterThan(1023);
  });

  it('says in one line what this host does not let it do', async () => {
    const fabric = open();
    await using _first = await fabric.attach(request, soon());
    host.run('ip', 'route', 'add', '10.213.0.3', 'dev', 'lo');
    const error = await failureOf(fabric.attach(request, soon()));
    expect(error).to.have.property('code', 'NETWORK_FAILED');
    expect(error)
      .to.have.property('message')
      .that.contains('network bridge cannot be joined')
      .and.contains('10.213.0.3');
    host.run('ip', 'route', 'del', '10.213.0.3', 'dev', 'lo');
  });

  it('does not touch a bridge, or a range, that is somebody else’s', async () => {
    host.run('ip', 'link', 'add', 'hrun0', 'type', 'bridge');
    const foreign = host.snapshot();
    const error = await failureOf(open().attach(request, soon()));
    expect(error)
      .to.have.property('message')
      .that.contains('hrun0')
      .and.contains('not a bridge of this hrun');
    expect(host.snapshot()).to.equal(foreign);
    host.run('ip', 'addr', 'add', '10.213.9.1/24', 'dev', 'hrun0');
    host.run('ip', 'link', 'set', 'hrun0', 'name', 'other', 'up');
    const overlapping = await failureOf(open().attach(request, soon()));
    expect(overlapping).to.have.property('message').that.contains('10.213.0.0/16').and.contains('other');
    host.run('ip', 'link', 'del', 'other');
  });

  it('takes over what another daemon left, and puts back rules that a reload took away', async () => {
    const earlier = open();
    const place = await earlier.attach(request, soon());
    const withoutPorts = () => host.snapshot().replaceAll(/(dnat ip to 10.213.0.1:|dport \{ ).*/g, '');
    const during = withoutPorts();
    host.run('nft', 'flush', 'ruleset');
    const later = open({
      '/proc/sys/net/ipv4/ip_forward': '0',
      '/proc/sys/net/ipv6/conf/all/forwarding': '0',
    });
    await using adopted = later.adopt(place.endpoint, testNetwork);
    await later.apply(soon());
    expect(withoutPorts()).to.equal(during);
    host.run('nft', 'flush', 'ruleset');
    await later.apply(soon());
    expect(withoutPorts()).to.equal(during);
    expect(adopted.endpoint.ipv4).to.equal('10.213.0.2');
    place.tap[Symbol.dispose]();
  });

  it('makes rules for all that an endpoint can be', async () => {
    const fabric = open();
    const internal = {
      ...testNetwork,
      id: 'b'.repeat(64),
      name: 'inner',
      bridge: 'hr-inner',
      internal: true,
      gateway4: '10.9.0.1/24',
    };
    await using _a = await fabric.attach(
      {
        ...request,
        ports: [
          { ...port, hostPorts: { first: 53, last: 53 }, protocol: 'udp' },
          { ...port, hostIp: '127.0.0.1' },
          { ...port, hostIp: '::1' },
          { ...port, protocol: 'sctp', hostPorts: { first: 9, last: 9 } },
        ],
        egress: {
          allow: [{ range: '192.0.2.0/24', port: 443 }, { range: 'fd00::/8' }, { name: 'example.com' }],
        },
        rateBytes: 125_000,
      },
      soon(),
    );
    const { gateway6: _none, ...inner4 } = internal;
    await using b = await fabric.attach({ ...request, network: inner4, egress: { allow: [] } }, soon());
    expect(b.endpoint.ipv6).to.equal(undefined);
    const rules = host.run('nft', 'list', 'ruleset');
    expect(rules).to.contain('192.0.2.0/24').and.contain('limit rate over 125').and.contain('@named4');
  });
});
