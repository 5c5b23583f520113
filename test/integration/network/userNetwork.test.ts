import { execFileSync } from 'node:child_process';
import { expect } from 'chai';
import { type HrunHost, newHrunHost } from '../../helpers/hrunHost.ts';
import { newNetns, type TestNetns } from '../../helpers/netns.ts';
import { nameServerIn, readFrom, serveIn } from '../../helpers/netService.ts';

const hostAddress = '192.0.2.10';
const metadata = '169.254.169.254';

describe('hrun run with the network user', () => {
  let netns: TestNetns;
  let host: HrunHost;
  let atRest: string;
  const services: AsyncDisposable[] = [];

  before(async () => {
    netns = await newNetns();
    netns.run('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up1');
    for (const address of [`${hostAddress}/24`, `${metadata}/32`]) {
      netns.run('ip', 'addr', 'add', address, 'dev', 'up0');
    }
    netns.run('ip', 'link', 'set', 'up0', 'up');
    netns.run('ip', 'link', 'set', 'up1', 'up');
    netns.run('ip', 'route', 'add', 'default', 'via', '192.0.2.1');
    services.push(
      await serveIn(netns.netns, 8000, (socket) =>
        socket.once('data', () => socket.end(`you are ${socket.remoteAddress}\n`)),
      ),
    );
    host = await newHrunHost({ netns: netns.netns });
    await host.ok(['run', '--rm', '--network', 'none', 'busybox', 'true']);
    atRest = netns.snapshot();
  });
  after(async () => {
    await host[Symbol.asyncDispose]();
    for (const service of services) await service[Symbol.asyncDispose]();
    await netns[Symbol.asyncDispose]();
  });
  afterEach(async () => {
    const left = await host.ok(['ps', '-aq']);
    if (left !== '') await host.ok(['rm', '-f', ...left.split('\n')]);
    expect(netns.snapshot()).to.equal(atRest);
    expect(gates()).to.deep.equal([]);
  });

  async function startServer(...flags: string[]): Promise<void> {
    const listens = 'until grep -q ":0050 .* 0A " /proc/net/tcp /proc/net/tcp6; do :; done';
    const script = `nc -ll -p 80 -e echo web & ${listens}; echo ready; wait`;
    await host.ok([
      'run',
      '-d',
      '--name',
      'web',
      '--network',
      'user',
      ...flags,
      'busybox',
      'sh',
      '-c',
      script,
    ]);
    for (let said = ''; !said.includes('ready'); ) said = await host.ok(['logs', 'web']);
  }
  /** With stdin kept open: passt of 2023 does not tell who has hung up about the end of the other side. */
  const ask = (address: string, seconds = 3) =>
    `{ test -p /f || mkfifo /f; exec 3<>/f; echo >&3; nc -w ${seconds} ${address} 8000 <&3 || echo refused; }`;
  const runUser = (flags: readonly string[], script: string) =>
    host.ok(['run', '--rm', '--network', 'user', ...flags, 'busybox', 'sh', '-c', script]);

  it('reaches what the host reaches, as the host', async () => {
    const seen = await runUser([], `ip -o -4 addr show eth0; ${ask(hostAddress)}`);
    expect(seen).to.contain('10.0.2.15/24').and.contain(`you are ::ffff:${hostAddress}`);
  });

  it('does not reach the host’s loopback, nor metadata, whatever it asks for', async () => {
    const routes =
      'ip route add 127.0.0.2/32 via 10.0.2.2 dev eth0; sysctl -qw net.ipv4.conf.all.route_localnet=1;';
    const asks = [metadata, '127.0.0.2', '10.0.2.2'].map((address) => ask(address)).join('; ');
    expect(await runUser(['--cap-add', 'NET_ADMIN'], `${routes} ${asks}`)).to.equal(
      'refused\nrefused\nrefused',
    );
  });

  it('finds names by the name servers of the caller', async () => {
    await using server = await nameServerIn(netns.netns, hostAddress, { 'a.example': '192.0.2.77' });
    const dns = ['--dns', hostAddress];
    expect(await runUser(dns, 'nslookup -type=a a.example')).to.contain('192.0.2.77');
    expect(server.asked).to.include('a.example');
  });

  it('publishes ports, and says what is in use before anything boots', async () => {
    await startServer('-p', '18080:80', '-p', '127.0.0.1:18081:80');
    expect(await host.ok(['port', 'web'])).to.contain('80/tcp -> 0.0.0.0:18080');
    expect(await readFrom(netns.netns, hostAddress, 18_080)).to.equal('web\n');
    expect(await readFrom(netns.netns, '127.0.0.1', 18_081)).to.equal('web\n');
    const { code, stderr } = await host.hrun([
      ...['run', '--rm', '--network', 'user', '-p', '18080:80', 'busybox', 'true'],
    ]);
    expect(code).to.equal(125);
    expect(stderr).to.contain('port is already allocated');
    const added = await host.hrun(['port', 'add', 'web', '99:99']);
    expect(added.code).to.not.equal(0);
    expect(added.stderr).to.contain('published when the container starts');
    expect(await host.ok(['inspect', '--format', '{{.NetworkSettings.IPAddress}}', 'web'])).to.equal(
      '10.0.2.15',
    );
  });

  it('holds an egress policy', async () => {
    expect(await runUser(['--egress', 'none'], ask(hostAddress))).to.equal('refused');
    const allowed = `allow=${hostAddress}:8000,${metadata}`;
    const asks = [ask(hostAddress), ask(metadata), ask('192.0.2.9')].join('; ');
    const [first, second, third] = (await runUser(['--egress', allowed], asks)).split('\n');
    expect([first, third]).to.deep.equal([`you are ::ffff:${hostAddress}`, 'refused']);
    expect(second).to.match(/^you are /);
  });

  it('opens the way to a name that is allowed once it was looked up, and tells no other name', async () => {
    await using server = await nameServerIn(netns.netns, hostAddress, {
      'good.example': hostAddress,
      'bad.example': hostAddress,
    });
    const asks = [ask(hostAddress), ask('good.example', 30), ask(hostAddress, 30), ask('bad.example')].join(
      '; ',
    );
    const flags = ['--dns', hostAddress, '--egress', 'allow=good.example:8000'];
    const said = await runUser(flags, `${asks}; nc -w 3 ${hostAddress} 8002 </dev/null || echo refused`);
    const reached = `you are ::ffff:${hostAddress}`;
    expect(said.split('\n')).to.deep.equal(['refused', reached, reached, 'refused', 'refused']);
    expect(server.asked).to.include('good.example').and.not.include('bad.example');
    expect(await runUser(['--dns', hostAddress], ask('bad.example', 30))).to.equal(reached);
  });

  it('is kept to its rate', async () => {
    const bytes = 400_000;
    await using _server = await serveIn(
      netns.netns,
      8001,
      (socket) => void socket.end(Buffer.alloc(bytes, 'x')),
    );
    const fetch = `mkfifo /f; exec 3<>/f; nc ${hostAddress} 8001 <&3 | wc -c`;
    const script = `start=$(date +%s); ${fetch}; echo $(( $(date +%s) - start ))`;
    const [count, seconds] = (await runUser(['--net-rate', '50k'], script)).split('\n').map(Number);
    expect(count).to.equal(bytes);
    // at that rate it takes nearly eight seconds; without it none
    expect(seconds).to.be.greaterThan(4);
  });

  it('goes on when the daemon is killed, and ends with its container', async () => {
    await host.ok(['run', '-d', '--name', 'web', '--network', 'user', 'busybox', 'sleep', '1000']);
    process.kill(await host.daemonPid(), 'SIGKILL');
    expect(await host.ok(['exec', 'web', 'sh', '-c', ask(hostAddress)])).to.contain('you are');
  });

  it('refuses what only a bridge can', async () => {
    for (const [flags, text] of [
      [['--ip', '10.0.2.99'], 'knows no --ip'],
      [['-p', '80:80/sctp'], 'sctp'],
    ] as const) {
      const { code, stderr } = await host.hrun([
        ...['run', '--rm', '--network', 'user', ...flags, 'busybox', 'true'],
      ]);
      expect([code, stderr]).to.satisfy(() => code === 125 && stderr.includes(text), stderr);
    }
    const { stderr } = await host.hrun(['network', 'create', 'user']);
    expect(stderr).to.contain('not permitted on predefined user network');
  });

  it('says that there is no way out where there is none', async () => {
    netns.run('ip', 'route', 'del', 'default');
    const { code, stderr } = await host.hrun(['run', '--rm', '--network', 'user', 'busybox', 'true']);
    netns.run('ip', 'route', 'add', 'default', 'via', '192.0.2.1');
    expect(code).to.equal(125);
    expect(stderr).to.contain('there is no default route here');
  });
});

describe('hrun run of somebody who is not root', () => {
  it('has the network user by default', async () => {
    await using host = await newHrunHost({ uid: 12_345, config: { network: undefined } });
    const seen = await host.ok(['run', '--rm', 'busybox', 'ip', '-o', '-4', 'addr', 'show', 'eth0']);
    expect(seen).to.contain('10.0.2.15/24');
  });
});

function gates(): string[] {
  return execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line.startsWith('hrun-gate'));
}
