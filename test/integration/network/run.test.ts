import { readdirSync, readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import type { NetNamespace } from '../../../src/sys/netNamespace.ts';
import { type HrunHost, newHrunHost } from '../../helpers/hrunHost.ts';
import { newNetns, type TestNetns } from '../../helpers/netns.ts';
import { nameServerIn, readFrom, serveIn } from '../../helpers/netService.ts';

/** Port 80, in the table of the kernel: state 0A. */
const untilListening = "until grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done";

/** Processes that wait for changes of a namespace's firewall. */
function monitorsIn({ identity }: NetNamespace): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      const { dev, ino } = statSync(`/proc/${pid}/ns/net`, { bigint: true });
      return `${dev}:${ino}` === identity && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('monitor');
    } catch {
      return false; // it has ended
    }
  });
}

/** `host` runs hrun; `world` is what lies behind it, reached over one link. */
describe('hrun run with a network', () => {
  let netns: TestNetns;
  let world: TestNetns;
  let host: HrunHost;
  let clean: string;

  before(async () => {
    [netns, world] = [await newNetns(), await newNetns()];
    netns.run('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'w0', 'netns', String(world.pid));
    for (const [side, name, end] of [
      [netns, 'up0', 1],
      [world, 'w0', 2],
    ] as const) {
      side.run('ip', 'addr', 'add', `192.0.2.${end}/24`, 'dev', name);
      side.run('ip', 'addr', 'add', `2001:db8::${end}/64`, 'dev', name, 'nodad');
      side.run('ip', 'link', 'set', name, 'up');
    }
    netns.run('ip', 'route', 'add', 'default', 'via', '192.0.2.2');
    netns.run('ip', '-6', 'route', 'add', 'default', 'via', '2001:db8::2');
    clean = netns.snapshot();
    host = await newHrunHost({ netns: netns.netns });
    await host.ok(['run', '--rm', '--network', 'none', 'busybox', 'true']);
  });
  after(async () => {
    await host[Symbol.asyncDispose]();
    await netns[Symbol.asyncDispose]();
    await world[Symbol.asyncDispose]();
  });
  afterEach(async () => {
    const left = await host.ok(['ps', '-aq']);
    if (left !== '') await host.ok(['rm', '-f', ...left.split('\n')]);
    expect(netns.snapshot()).to.equal(clean);
  });

  const sh = (script: string, ...flags: string[]) =>
    host.hrun(['run', '--rm', ...flags, 'busybox', 'sh', '-c', script]);
  const start = async (name: string, script: string, ...flags: string[]) =>
    await host.ok(['run', '-d', '--rm', '--name', name, ...flags, 'busybox', 'sh', '-c', script]);
  /** A container that says its name to everybody who connects to port 80. */
  async function startServer(name: string, ...flags: string[]): Promise<void> {
    await start(name, `nc -ll -p 80 -e echo ${name} & ${untilListening}; echo ready; wait`, ...flags);
    for (let said = ''; !said.includes('ready'); ) said = await host.ok(['logs', name]);
  }
  const ask = (address: string, port: number) => `nc -w 9 ${address} ${port} </dev/null || echo refused`;

  it('reaches the host and what lies behind it, by the host’s address, with IPv4 and IPv6', async () => {
    await using _server = await serveIn(
      world.netns,
      80,
      (socket) => void socket.end(`${socket.remoteAddress}\n`),
    );
    const { stdout, stderr } = await sh(
      `ping -c1 -W9 10.213.0.1 >/dev/null && echo host; ${ask('192.0.2.2', 80)}; ${ask('2001:db8::2', 80)}`,
    );
    expect(stdout.split('\n'), stderr).to.deep.equal(['host', '::ffff:192.0.2.1', '2001:db8::1', '']);
  });

  it('has loopback and nothing else with --network none', async () => {
    const { stdout } = await sh(
      'cat /etc/resolv.conf; ip route; ip -o addr | grep -v " lo "',
      '--network',
      'none',
    );
    expect(stdout).to.equal('');
  });

  it('publishes ports, keeping the address of who asks', async () => {
    await startServer('web', '-p', '8080:80', '-p', '127.0.0.1:8081:80', '-p', '[::1]:8082:80');
    expect(await host.ok(['port', 'web'])).to.equal(
      '80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n80/tcp -> 127.0.0.1:8081\n80/tcp -> [::1]:8082',
    );
    expect(await readFrom(world.netns, '192.0.2.1', 8080)).to.equal('web\n');
    expect(await readFrom(world.netns, '2001:db8::1', 8080)).to.equal('web\n');
    expect(await readFrom(netns.netns, '127.0.0.1', 8080)).to.equal('web\n');
    expect(await readFrom(netns.netns, '192.0.2.1', 8080)).to.equal('web\n');
    expect(await readFrom(netns.netns, '127.0.0.1', 8081)).to.equal('web\n');
    expect(await readFrom(netns.netns, '::1', 8080)).to.equal('web\n');
    expect(await readFrom(netns.netns, '::1', 8082)).to.equal('web\n');
    for (const [address, port] of [
      ['192.0.2.1', 8081],
      ['2001:db8::1', 8082],
    ] as const) {
      const elsewhere = await readFrom(world.netns, address, port).catch((error: unknown) => error);
      expect(elsewhere, address).to.be.instanceOf(Error);
    }
    const taken = await sh('true', '-p', '8080:80');
    expect(taken.code).to.equal(125);
    expect(taken.stderr).to.contain('Bind for 0.0.0.0:8080 failed: port is already allocated');
    const { stdout } = await sh(ask('192.0.2.1', 8080));
    expect(stdout, 'from a container through the host').to.equal('web\n');
  });

  it('puts its rules back when a firewall is loaded anew', async () => {
    await startServer('web', '-p', '8080:80');
    // what the rules were not watched for yet is not noticed
    while (monitorsIn(netns.netns).length === 0) await host.ok(['ps']);
    netns.run('nft', 'flush', 'ruleset');
    // meanwhile the daemon's own socket, which only holds the port, lets who connects wait for ever
    const patience = () => sleep(500, 'no answer');
    for (let said: unknown; said !== 'web\n'; ) {
      const answer = readFrom(world.netns, '192.0.2.1', 8080).catch((error: unknown) => error);
      said = await Promise.race([answer, patience()]);
    }
  });

  it('lets containers find each other by name, and no one else by another’s address', async () => {
    await startServer('web', '--network-alias', 'shop');
    const { stdout, stderr } = await sh(
      `${ask('web', 80)}; ${ask('SHOP', 80)}; nslookup -type=ptr 2.0.213.10.in-addr.arpa | grep -o 'name = .*'; nslookup nobody.example >/dev/null || echo unknown`,
    );
    expect(stdout, stderr)
      .to.match(/^web\nweb\n.*name = web\n/)
      .and.match(/unknown\n$/);
    const spoofed = await sh(
      'ip addr add 10.213.0.99/16 dev eth0; ping -c1 -W9 10.213.0.1 >/dev/null && echo own; ping -I 10.213.0.99 -c1 -W1 10.213.0.1 >/dev/null || echo refused; arping -c1 -w1 -s 10.213.0.99 -I eth0 10.213.0.1 >/dev/null || echo "no arp"; ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:09; ip link set eth0 up; ping -c1 -W1 10.213.0.1 >/dev/null || echo "no mac"',
      '--cap-add',
      'NET_ADMIN',
    );
    expect(spoofed.stdout, spoofed.stderr).to.equal('own\nrefused\nno arp\nno mac\n');
  });

  it('asks the name servers of the host, or those it is told', async () => {
    const { stdout } = await sh(
      'cat /etc/resolv.conf; grep -e elsewhere -e gate /etc/hosts',
      ...['--dns', '192.0.2.2', '--dns-search', 'example.org', '--dns-option', 'ndots:2'],
      ...['--add-host', 'elsewhere:198.51.100.7', '--add-host', 'gate:host-gateway'],
    );
    expect(stdout).to.equal(
      'nameserver 10.213.0.1\nsearch example.org\noptions ndots:2\n198.51.100.7\telsewhere\n10.213.0.1\tgate\n',
    );
  });

  it('keeps a guest from what its policy does not allow, and everyone from metadata', async () => {
    world.run('ip', 'addr', 'add', '169.254.169.254/32', 'dev', 'w0');
    netns.run('ip', 'route', 'add', '169.254.169.254', 'via', '192.0.2.2');
    try {
      await using _allowed = await serveIn(world.netns, 80, (socket) => void socket.end('80\n'));
      await using _other = await serveIn(world.netns, 81, (socket) => void socket.end('81\n'));
      const ask = (address: string, port: number) =>
        `busybox nc -w 9 ${address} ${port} </dev/null || echo refused`;
      const script = [ask('192.0.2.2', 80), ask('192.0.2.2', 81), ask('169.254.169.254', 80)].join('; ');
      expect((await sh(script)).stdout).to.equal('80\n81\nrefused\n');
      expect((await sh(script, '--egress', 'none')).stdout).to.equal('refused\nrefused\nrefused\n');
      const some = '--egress=allow=192.0.2.0/24:80,169.254.169.254';
      expect((await sh(script, some)).stdout).to.equal('80\nrefused\n80\n');
    } finally {
      netns.run('ip', 'route', 'del', '169.254.169.254');
    }
  });

  it('opens the way to a name that is allowed once it was looked up, and tells no other name', async () => {
    world.run('ip', 'addr', 'add', '192.0.2.3/24', 'dev', 'w0');
    await using names = await nameServerIn(world.netns, '192.0.2.2', {
      'good.example': '192.0.2.3',
      'bad.example': '192.0.2.2',
    });
    await using _server = await serveIn(world.netns, 80, (socket) => void socket.end('80\n'));
    const { stdout, stderr } = await sh(
      [
        ask('192.0.2.3', 80),
        ask('good.example', 80),
        ask('192.0.2.3', 80),
        ask('bad.example', 80),
        ask('192.0.2.2', 80),
      ].join('; '),
      ...['--dns', '192.0.2.2', '--egress', 'allow=good.example:80'],
    );
    expect(stdout, stderr).to.equal('refused\n80\n80\nrefused\nrefused\n');
    expect(names.asked).to.include('good.example').and.not.include('bad.example');
    const open = await sh(ask('bad.example', 80), '--dns', '192.0.2.2');
    expect(open.stdout, open.stderr).to.equal('80\n');
  });

  it('keeps a guest to its rate', async () => {
    const bytes = 400_000;
    await using _server = await serveIn(
      world.netns,
      80,
      (socket) => void socket.end(Buffer.alloc(bytes, 'x')),
    );
    const script = 'start=$(date +%s); nc 192.0.2.2 80 </dev/null | wc -c; echo $(( $(date +%s) - start ))';
    const [count, seconds] = (await sh(script, '--net-rate', '50k')).stdout.trim().split('\n').map(Number);
    expect(count).to.equal(bytes);
    // at that rate it takes nearly eight seconds; without it none
    expect(seconds).to.be.greaterThan(4);
  });

  it('keeps the address and MAC that a user chose, and refuses what cannot be', async () => {
    const { stdout } = await sh(
      'ip -o -4 addr show eth0 | tr -s " " | cut -d" " -f4; cat /sys/class/net/eth0/address',
      ...['--ip', '10.213.5.5', '--mac-address', '02:42:00:00:00:05'],
    );
    expect(stdout).to.equal('10.213.5.5/16\n02:42:00:00:00:05\n');
    for (const [flags, text] of [
      [['--network', 'nosuch'], 'network nosuch not found'],
      [['--network', 'host'], 'cannot have the network of the host'],
      [['--ip', '192.0.2.77'], '10.213.0.0/16'],
      [['-p', '99999:80'], '99999:80'],
      [['--egress', 'some'], 'some'],
    ] as const) {
      const { code, stderr } = await sh('true', ...flags);
      expect(code, text).to.equal(125);
      expect(stderr).to.contain(text);
    }
  });

  it('is cut off by a firewall like Docker’s, which doctor tells of, with what mends it', async () => {
    await using _server = await serveIn(world.netns, 80, (socket) => void socket.end('80\n'));
    const finding = async () => {
      const checks = (await host.hrun(['doctor', '--format', 'json'])).stdout.trim().split('\n');
      return checks.map((line) => JSON.parse(line)).find(({ name }) => name === 'firewall');
    };
    expect(await finding()).to.include({ status: 'ok' });
    try {
      netns.run('iptables', '-P', 'FORWARD', 'DROP');
      netns.run('iptables', '-N', 'DOCKER-USER');
      netns.run('iptables', '-A', 'DOCKER-USER', '-j', 'RETURN');
      netns.run('iptables', '-I', 'FORWARD', '-j', 'DOCKER-USER');
      const ask = 'nc -w 2 192.0.2.2 80 </dev/null || echo nothing';
      expect((await sh(ask)).stdout).to.equal('nothing\n');
      const { status, detail, remedy } = await finding();
      expect(status).to.equal('warn');
      expect(detail).to.contain('ip filter FORWARD');
      netns.run('sh', '-c', remedy);
      expect((await sh(ask)).stdout).to.equal('80\n');
      expect(await finding()).to.include({ status: 'ok' });
    } finally {
      netns.run('nft', 'delete', 'table', 'ip', 'filter');
    }
  });

  it('goes on over a crash of the daemon, and is cleaned up by the next', async () => {
    await startServer('web', '-p', '8080:80');
    const pid = await host.daemonPid();
    while (monitorsIn(netns.netns).length === 0) await host.ok(['ps']);
    const [watching] = monitorsIn(netns.netns);
    process.kill(pid, 'SIGKILL');
    while (monitorsIn(netns.netns)[0] === watching) await host.ok(['ps']);
    expect(await readFrom(world.netns, '192.0.2.1', 8080)).to.equal('web\n');
    expect(await host.ok(['port', 'web', '80'])).to.equal('0.0.0.0:8080\n[::]:8080');
    expect(await readFrom(world.netns, '192.0.2.1', 8080)).to.equal('web\n');
    const { stdout } = await sh(ask('web', 80));
    expect(stdout).to.equal('web\n');
  });
});
