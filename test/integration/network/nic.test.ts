import { expect } from 'chai';
import { parsePrefix } from '../../../src/network/ipAddress.ts';
import {
  plumbableInterfaces,
  plumbNamespace,
  unplumbNamespace,
} from '../../../src/network/plumbNamespace.ts';
import { addAddress } from '../../../src/network/rtnetlink/addresses.ts';
import { changeLink, findLink } from '../../../src/network/rtnetlink/links.ts';
import { openRouteSocket } from '../../../src/network/rtnetlink/routeSocket.ts';
import { configureGuestNetwork } from '../../../src/runtime/configureGuestNetwork.ts';
import { openTap } from '../../../src/sys/tap.ts';
import {
  type AgentGuest,
  command,
  openAgentGuest,
  personalization,
  refusal,
  soon,
} from '../../helpers/agentGuest.ts';
import { newNetns, type TestNetns } from '../../helpers/netns.ts';
import { serveIn } from '../../helpers/netService.ts';

const eth0 = {
  slot: 0,
  name: 'eth0',
  mac: '02:42:0a:09:00:02',
  mtu: 1400,
  addresses: ['10.9.0.2/24', 'fd09::2/64'],
  routes: [
    { destination: '0.0.0.0/0', gateway: '10.9.0.1' },
    { destination: '::/0', gateway: 'fd09::1' },
  ],
};

describe('the network device of a microVM', () => {
  let guest: AgentGuest;
  let host: TestNetns;

  before(async () => {
    guest = await openAgentGuest();
    host = await newNetns();
  });
  after(async () => {
    await host[Symbol.asyncDispose]();
    await guest[Symbol.asyncDispose]();
  });

  const inGuest = async (...args: string[]) => await guest.run(command(['busybox', ...args]));
  const ping = async (address: string, limitS = 10) =>
    (await inGuest('ping', '-c', '1', '-W', String(limitS), address)).exit.code;

  it('is configured for a guest that knows who it is, and not before', async () => {
    const early = await refusal(guest.client.configureNetwork({ interfaces: [eth0] }, soon()));
    expect(early.reason).to.equal('NOT_PERSONALIZED');
    await guest.client.personalize(personalization(), soon());
    await guest.client.configureNetwork({ interfaces: [eth0] }, soon());
    const { stdout } = await inGuest('ip', 'addr', 'show', 'dev', 'eth0');
    expect(stdout).to.contain('link/ether 02:42:0a:09:00:02').and.contain('mtu 1400').and.contain('UP');
    expect(stdout)
      .to.contain('inet 10.9.0.2/24')
      .and.contain('inet6 fd09::2/64')
      .and.not.contain('tentative');
    const routes = (await inGuest('ip', 'route')).stdout + (await inGuest('ip', '-6', 'route')).stdout;
    expect(routes).to.contain('default via 10.9.0.1').and.contain('default via fd09::1');
  });

  it('is made anew by each call', async () => {
    const changed = { ...eth0, name: 'net1', addresses: ['10.9.0.3/24'], routes: [] };
    await guest.client.configureNetwork({ interfaces: [changed] }, soon());
    const { stdout } = await inGuest('ip', 'addr');
    expect(stdout).to.contain('net1').and.contain('10.9.0.3/24');
    expect(stdout).not.to.match(/eth0|10\.9\.0\.2\b|fd09/);
    await guest.client.configureNetwork({ interfaces: [eth0] }, soon());
    await guest.client.configureNetwork({ interfaces: [eth0] }, soon());
    expect((await inGuest('ip', 'addr')).stdout)
      .to.contain('10.9.0.2/24')
      .and.not.contain('10.9.0.3');
  });

  it('is refused what it cannot be, by name', async () => {
    const nowhere = await refusal(
      guest.client.configureNetwork({ interfaces: [{ ...eth0, slot: 7 }] }, soon()),
    );
    expect(nowhere.reason).to.equal('NO_SUCH_DEVICE');
    const route = { destination: '10.77.0.0/16', gateway: '192.0.2.1' };
    const unreachable = await refusal(
      guest.client.configureNetwork({ interfaces: [{ ...eth0, routes: [route] }] }, soon()),
    );
    expect(unreachable.message).to.contain('10.77.0.0/16').and.contain('unreachable');
    await guest.client.configureNetwork({ interfaces: [eth0] }, soon());
  });

  it('reaches what its tap is plugged into, also after it was unplugged', async () => {
    expect(await ping('10.9.0.1', 1)).not.to.equal(0);
    for (const name of ['tap-a', 'tap-b']) {
      const tap = host.netns.run(() => openTap(name));
      using socket = openRouteSocket(host.netns);
      const link = findLink(socket, name);
      if (link === undefined) throw new Error('there is no tap');
      addAddress(socket, link.index, parsePrefix('10.9.0.1/24', 'the address'));
      addAddress(socket, link.index, parsePrefix('fd09::1/64', 'the address'));
      changeLink(socket, link.index, { up: true, mtu: 1400 }, name);
      await guest.vm.plugNic(0, { kind: 'tap', fd: tap.fd }, soon());
      tap[Symbol.dispose]();
      expect(await ping('10.9.0.1'), name).to.equal(0);
      expect(await ping('fd09::1'), name).to.equal(0);
      await guest.vm.unplugNic(0, soon());
      expect(findLink(socket, name), 'QEMU lets go of the tap').to.equal(undefined);
      expect(await ping('10.9.0.1', 1)).not.to.equal(0);
    }
  });

  it('is not left half plugged by a descriptor that is no tap', async () => {
    const { stdin } = process;
    const failure = await guest.vm
      .plugNic(0, { kind: 'tap', fd: stdin.fd }, soon())
      .catch((error: unknown) => error);
    expect(failure).to.have.property('code', 'QEMU_FAILED');
    using tap = host.netns.run(() => openTap('tap-c'));
    await guest.vm.plugNic(0, { kind: 'tap', fd: tap.fd }, soon());
    await guest.vm.unplugNic(0, soon());
  });

  it('takes the place of an interface in a namespace that others made', async () => {
    await using router = await newNetns();
    await using container = await newNetns();
    router.run(
      'ip',
      'link',
      'add',
      'r0',
      'type',
      'veth',
      'peer',
      'name',
      'c0',
      'netns',
      String(container.pid),
    );
    router.run('ip', 'addr', 'add', '10.1.0.1/24', 'dev', 'r0');
    router.run('ip', 'addr', 'add', 'fd01::1/64', 'dev', 'r0', 'nodad');
    router.run('ip', 'link', 'set', 'r0', 'mtu', '1450', 'up');
    container.run('ip', 'addr', 'add', '10.1.0.2/24', 'dev', 'c0');
    container.run('ip', 'addr', 'add', 'fd01::2/64', 'dev', 'c0', 'nodad');
    container.run('ip', 'link', 'set', 'c0', 'mtu', '1450', 'up');
    container.run('ip', 'route', 'add', '192.0.2.1', 'dev', 'c0');
    container.run('ip', 'route', 'add', 'default', 'via', '10.1.0.1');
    container.run('ip', '-6', 'route', 'add', 'default', 'via', 'fd01::1');
    const before = container.snapshot();

    expect(plumbableInterfaces(container.netns)).to.equal(1);
    const plumbed = plumbNamespace(container.netns);
    expect(
      plumbed.nics.map(({ guest: { name, mtu, addresses } }) => ({ name, mtu, addresses })),
    ).to.deep.equal([{ name: 'c0', mtu: 1450, addresses: ['10.1.0.2/24', 'fd01::2/64'] }]);
    for (const [slot, { tap }] of plumbed.nics.entries()) {
      await guest.vm.plugNic(slot, { kind: 'tap', fd: tap.fd }, soon());
      tap[Symbol.dispose]();
    }
    const interfaces = plumbed.nics.map(({ guest: nic }) => nic);
    await configureGuestNetwork(guest.client, interfaces, soon());
    expect(await ping('10.1.0.1')).to.equal(0);
    expect(await ping('fd01::1')).to.equal(0);
    expect((await inGuest('ip', 'route')).stdout)
      .to.contain('192.0.2.1 dev c0')
      .and.contain('default via 10.1.0.1');

    // bulk data, with the check sums and segments of a veth that leaves them to its other end
    const bytes = 3_000_000;
    await using _server = await serveIn(
      router.netns,
      8080,
      (socket) => void socket.end(Buffer.alloc(bytes, 'x')),
    );
    const received = await inGuest('sh', '-c', 'busybox nc 10.1.0.1 8080 | busybox wc -c');
    expect(received.stdout.trim()).to.equal(String(bytes));
    expect(router.run('busybox', 'ping', '-c', '1', '-W', '10', '10.1.0.2')).to.contain('1 packets received');

    await guest.vm.unplugNic(0, soon());
    unplumbNamespace(container.netns, ['c0']);
    unplumbNamespace(container.netns, ['c0', 'gone']);
    expect(container.snapshot()).to.equal(before);
  });
});
