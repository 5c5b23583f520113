import { expect } from 'chai';
import { type HrunHost, newHrunHost } from '../../helpers/hrunHost.ts';
import { newNetns, type TestNetns } from '../../helpers/netns.ts';
import { readFrom, serveIn } from '../../helpers/netService.ts';

/** Port 80, in the table of the kernel: state 0A. */
const untilListening = "until grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done";

describe('networks of the user', () => {
  let netns: TestNetns;
  let host: HrunHost;
  let clean: string;

  before(async () => {
    netns = await newNetns();
    netns.run('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up1');
    netns.run('ip', 'addr', 'add', '192.0.2.1/24', 'dev', 'up0');
    netns.run('ip', 'link', 'set', 'up0', 'up');
    netns.run('ip', 'link', 'set', 'up1', 'up');
    host = await newHrunHost({ netns: netns.netns });
    await host.ok(['run', '--rm', '--network', 'none', 'busybox', 'true']);
    clean = netns.snapshot();
  });
  after(async () => {
    await host[Symbol.asyncDispose]();
    await netns[Symbol.asyncDispose]();
  });
  afterEach(async () => {
    const left = await host.ok(['ps', '-aq']);
    if (left !== '') await host.ok(['rm', '-f', ...left.split('\n')]);
    await host.ok(['network', 'prune']);
    expect(netns.snapshot()).to.equal(clean);
  });

  async function startServer(name: string, ...flags: string[]): Promise<void> {
    const script = `nc -ll -p 80 -e echo ${name} & ${untilListening}; echo ready; wait`;
    await host.ok(['run', '-d', '--rm', '--name', name, ...flags, 'busybox', 'sh', '-c', script]);
    for (let said = ''; !said.includes('ready'); ) said = await host.ok(['logs', name]);
  }
  const ask = (address: string, port: number) => `nc -w 30 ${address} ${port} </dev/null || echo refused`;
  const sh = (script: string, ...flags: string[]) =>
    host.hrun(['run', '--rm', ...flags, 'busybox', 'sh', '-c', script]);
  /** What a container of a network is told by another. */
  const told = async (by: string, network: string) => {
    const { stdout, stderr } = await sh(ask(by, 80), '--network', network);
    return stdout === '' ? stderr : stdout;
  };
  const refusal = async (...args: string[]) => {
    const { code, stderr } = await host.hrun(args);
    expect(code, stderr).not.to.equal(0);
    return stderr;
  };

  it('are made, listed, shown and removed, and nothing wrong is made', async () => {
    const id = await host.ok(['network', 'create', '--subnet', '10.77.0.0/24', '--label', 'a=b', 'shop']);
    expect(await host.ok(['network', 'ls', '--format', '{{.Name}} {{.Driver}} {{.IPv6}}'])).to.equal(
      'bridge bridge true\nshop bridge false',
    );
    expect(await host.ok(['network', 'ls', '-q', '--no-trunc', '--filter', 'name=shop'])).to.equal(id);
    const [shown] = JSON.parse(await host.ok(['network', 'inspect', 'shop']));
    expect(shown).to.deep.include({
      Name: 'shop',
      Id: id,
      Labels: { a: 'b' },
      Internal: false,
      Containers: {},
    });
    expect(shown.IPAM.Config).to.deep.equal([{ Subnet: '10.77.0.0/24', Gateway: '10.77.0.1' }]);
    await host.ok(['network', 'create', 'chosen']);
    for (const [args, text] of [
      [['network', 'create', 'shop'], 'network with name shop already exists'],
      [['network', 'create', 'host'], 'predefined host network'],
      [['network', 'create', '--subnet', '10.77.0.128/25', 'x2'], 'overlaps'],
      [['network', 'create', '--subnet', '10.213.4.0/24', 'x2'], 'network bridge'],
      [['network', 'create', '--subnet', '192.0.2.0/25', 'x2'], 'up0'],
      [['network', 'create', '--subnet', '10.78.0.1/24', 'x2'], 'begins at 10.78.0.0/24'],
      [['network', 'create', '--subnet', '10.78.0.0/31', 'x2'], 'too small'],
      [['network', 'create', '--subnet', '10.78.0.0/24', '--gateway', '10.79.0.1', 'x2'], 'not in the range'],
      [['network', 'create', '--subnet', 'ten', 'x2'], '"ten"'],
      [['network', 'rm', 'bridge'], 'pre-defined'],
      [['network', 'rm', 'nosuch'], 'network nosuch not found'],
      [['network', 'inspect', 'nosuch'], 'network nosuch not found'],
    ] as const) {
      expect(await refusal(...args), args.join(' ')).to.contain(text);
    }
    expect(await host.ok(['network', 'rm', 'shop'])).to.equal('shop');
    expect(await host.ok(['network', 'prune'])).to.contain('chosen');
    expect(await host.ok(['network', 'ls', '--format', '{{.Name}}'])).to.equal('bridge');
  });

  it('keep their containers together, and apart from others', async () => {
    await host.ok(['network', 'create', '--ipv6', 'shop']);
    await startServer('web', '--network', 'shop', '--network-alias', 'www');
    const inside = await sh(
      `${ask('web', 80)}; ${ask('www', 80)}; ip -o -6 addr show eth0 | grep -c fd`,
      '--network',
      'shop',
    );
    expect(inside.stdout, inside.stderr).to.equal('web\nweb\n1\n');
    const address = await host.ok(['inspect', '-f', '{{.NetworkSettings.Networks.shop.IPAddress}}', 'web']);
    const outside = await sh(`nslookup web >/dev/null || echo unknown; ${ask(address, 80)}`);
    expect(outside.stdout).to.equal('unknown\nrefused\n');
    expect(await readFrom(netns.netns, address, 80), 'the host reaches it').to.equal('web\n');
    expect(await refusal('network', 'rm', 'shop')).to.contain('has active endpoints: web');
  });

  it('lead nowhere else when they are internal', async () => {
    await host.ok(['network', 'create', '--internal', 'inner']);
    await using _server = await serveIn(netns.netns, 8000, (socket) => void socket.end('host\n'));
    await startServer('db', '--network', 'inner');
    const { stdout } = await sh(
      `${ask('db', 80)}; ip route | grep -c default; nslookup example.com >/dev/null || echo unknown; ping -c1 -W1 198.51.100.1 >/dev/null || echo closed`,
      '--network',
      'inner',
    );
    expect(stdout).to.equal('db\n0\nunknown\nclosed\n');
  });

  it('are joined and left by containers that run', async () => {
    await host.ok(['network', 'create', 'shop']);
    await startServer('web');
    expect(await refusal('network', 'disconnect', 'shop', 'web')).to.contain('is not connected');
    await host.ok(['network', 'disconnect', 'bridge', 'web']);
    expect(await host.ok(['inspect', '-f', '{{json .NetworkSettings.Networks}}', 'web'])).to.equal('{}');
    await host.ok(['network', 'connect', '--alias', 'www', 'shop', 'web']);
    expect(await refusal('network', 'connect', 'shop', 'web')).to.contain('already exists in network shop');
    const { stdout, stderr } = await sh(ask('www', 80), '--network', 'shop');
    expect(stdout, stderr).to.equal('web\n');
  });

  it('are several of one container, each with names and addresses of its own', async () => {
    await host.ok(['network', 'create', '--internal', '--ipv6', '--subnet', '10.81.0.0/24', 'inner']);
    await host.ok(['network', 'create', '--ipv6', '--subnet', '10.82.0.0/24', 'outer']);
    await startServer('db', '--network', 'inner', '--network-alias', 'store');
    await startServer('front', '--network', 'outer');
    await startServer(
      'web',
      ...[
        '--network',
        'name=inner,ip=10.81.0.7,alias=both',
        '--network',
        'name=outer,ip=10.82.0.9,alias=www',
      ],
      ...['-p', '8080:80'],
    );
    const exec = (script: string) => host.ok(['exec', 'web', 'sh', '-c', script]);
    expect(await exec('ip route; ip -6 route | grep default; cut -f1 /etc/hosts | grep ^10')).to.match(
      /^default via 10.82.0.1 dev eth1 \n10.81.0.0\/24 dev eth0 .* 10.81.0.7 \n10.82.0.0\/24 dev eth1 .* 10.82.0.9 \ndefault via fd\S+ dev eth1 .*\n10.81.0.7\n10.82.0.9$/,
    );
    expect(await exec([ask('store', 80), ask('front', 80), ask('192.0.2.1', 8000)].join('; '))).to.equal(
      'db\nfront\nrefused',
    );
    for (const address of ['127.0.0.1', '::1']) {
      expect(await readFrom(netns.netns, address, 8080), address).to.equal('web\n');
    }
    expect((await sh(`${ask('both', 80)}; ${ask('www', 80)}`, '--network', 'inner')).stdout).to.equal(
      'web\nrefused\n',
    );
    expect((await sh(`${ask('both', 80)}; ${ask('www', 80)}`, '--network', 'outer')).stdout).to.equal(
      'refused\nweb\n',
    );
    const format = '{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{$v.IPAddress}} {{end}}';
    expect(await host.ok(['inspect', '-f', format, 'web'])).to.equal('inner 10.81.0.7 outer 10.82.0.9');
    for (const [flags, text] of [
      [['--network', 'inner', '--network', 'inner'], 'is specified multiple times'],
      [['--network', 'inner', '--network', 'cni:x'], 'network cni:x goes with no other network'],
      [
        ['--network', 'name=inner,ip=10.81.0.8', '--ip', '10.81.0.9'],
        'cannot specify both --ip and per-network',
      ],
      [['--network', 'name=inner,speed=1'], 'unknown key "speed"'],
    ] as const) {
      expect((await sh('true', ...flags)).stderr).to.contain(text);
    }
  });

  it('are joined and left one after the other by a container that goes on, also under the next daemon', async () => {
    await host.ok(['network', 'create', '--subnet', '10.83.0.0/24', 'shop']);
    await host.ok(['network', 'create', 'third']);
    await startServer('web', '-p', '8080:80');
    await host.ok(['network', 'connect', '--alias', 'www', '--ip', '10.83.0.7', 'shop', 'web']);
    expect(await told('www', 'shop')).to.equal('web\n');
    expect(await told('web', 'bridge')).to.equal('web\n');
    expect(await refusal('network', 'connect', 'third', 'web')).to.contain('has 2 network devices');
    const pid = await host.daemonPid();
    process.kill(pid, 'SIGKILL');
    while ((await host.daemonPid().catch(() => pid)) === pid) await host.ok(['ps']);
    expect(await told('www', 'shop')).to.equal('web\n');
    await host.ok(['network', 'disconnect', 'bridge', 'web']);
    const routes = await host.ok(['exec', 'web', 'sh', '-c', 'ip route']);
    expect(routes).to.match(/^default via 10.83.0.1 dev eth1 \n10.83.0.0\/24 dev eth1 .*$/);
    expect(await readFrom(netns.netns, '127.0.0.1', 8080)).to.equal('web\n');
    await host.ok(['network', 'connect', 'third', 'web']);
    expect(await told('web', 'third')).to.equal('web\n');
    expect(await host.ok(['exec', 'web', 'sh', '-c', 'ip route | grep -c default'])).to.equal('1');
  });

  it('are as many as a microVM has room for, with directories of the host too', async () => {
    const names = ['net1', 'net2', 'net3', 'net4', 'net5'];
    for (const name of names) await host.ok(['network', 'create', name]);
    const all = (count: number) => names.slice(0, count).flatMap((name) => ['--network', name]);
    const addresses = 'ip -o -4 addr | grep -c eth; echo x > /root/y; cat /root/y';
    expect((await sh(addresses, ...all(4))).stdout).to.equal('4\nx\n');
    const bind = ['-v', `${host.directory}:/host`];
    expect((await sh(`${addresses}; ls /host | grep -c config`, ...all(3), ...bind)).stdout).to.equal(
      '3\nx\n1\n',
    );
    expect((await sh(addresses, ...all(5))).stderr).to.contain('5 networks are more than a microVM can have');
    expect((await sh(addresses, ...all(4), ...bind)).stderr).to.contain('4 networks are more than');
  });

  it('publish and forget ports of containers that run', async () => {
    await startServer('web');
    expect(await host.ok(['port', 'add', 'web', '127.0.0.1:8090:80'])).to.equal('80/tcp -> 127.0.0.1:8090');
    expect(await readFrom(netns.netns, '127.0.0.1', 8090)).to.equal('web\n');
    expect(await refusal('port', 'add', 'web', '127.0.0.1:8090:81')).to.contain('port is already allocated');
    await host.ok(['port', 'rm', 'web', '80']);
    expect(await host.ok(['port', 'web'])).to.equal('');
    const gone = await readFrom(netns.netns, '127.0.0.1', 8090).catch((error: unknown) => error);
    expect(gone).to.be.instanceOf(Error);
    expect(await refusal('port', 'rm', 'web', '80')).to.contain("no public port '80'");
  });

  it('without IPv6 publish ports where they lead somewhere', async () => {
    await host.ok(['network', 'create', 'shop']);
    await startServer('web', '--network', 'shop', '-p', '8080:80');
    expect(await host.ok(['port', 'web'])).to.equal('80/tcp -> 0.0.0.0:8080');
    expect(await readFrom(netns.netns, '127.0.0.1', 8080)).to.equal('web\n');
    const refused = await readFrom(netns.netns, '::1', 8080).catch((error: unknown) => error);
    expect(refused).to.be.instanceOf(Error);
    expect(await refusal('port', 'add', 'web', '[::1]:8081:80')).to.contain('network shop has no IPv6');
  });

  it('remember what their containers were refused', async () => {
    const script = 'nc -w 3 192.0.2.1 99 </dev/null; echo ready; exec sleep 1000';
    await host.ok([
      'run',
      '-d',
      '--rm',
      '--name',
      'jailed',
      '--egress',
      'none',
      'busybox',
      'sh',
      '-c',
      script,
    ]);
    for (let said = ''; !said.includes('ready'); ) said = await host.ok(['logs', 'jailed']);
    const rows = await host.ok([
      'network',
      'log',
      '--format',
      '{{.Container}} {{.Destination}} {{.Protocol}}',
    ]);
    expect(rows).to.equal('jailed 192.0.2.1:99 tcp');
  });
});
