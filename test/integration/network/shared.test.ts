import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { type HrunHost, newHrunHost, resultOf } from '../../helpers/hrunHost.ts';
import { newNetns, type TestNetns } from '../../helpers/netns.ts';
import { readFrom } from '../../helpers/netService.ts';

/** Waits for something that is bound to happen; the suite's time-out is the limit. */
async function until(probe: () => Promise<boolean>): Promise<void> {
  while (!(await probe())) await sleep(20);
}

describe('hrun run --network container:NAME', () => {
  let netns: TestNetns;
  let host: HrunHost;

  before(async () => {
    netns = await newNetns();
    host = await newHrunHost({ netns: netns.netns, config: { poolReady: 0 } });
    await host.ok(['run', '--rm', '--network', 'none', 'busybox', 'true']);
  });
  after(async () => {
    await host[Symbol.asyncDispose]();
    await netns[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    const flags = ['--hostname', 'shop', '--add-host', 'far:192.0.2.9', '-p', '8080:80'];
    await host.ok(['run', '-d', '--name', 'web', ...flags, 'busybox', 'sleep', '1000']);
  });
  afterEach(async () => {
    const left = await host.ok(['ps', '-aq']);
    if (left !== '') await host.ok(['rm', '-f', ...left.split('\n')]);
  });

  const inside = (...args: string[]) => ['run', '--network', 'container:web', ...args];
  const inspect = async (container: string, format: string) =>
    await host.ok(['inspect', '--format', format, container]);
  const exec = (container: string, script: string) => host.ok(['exec', container, 'sh', '-c', script]);
  async function killDaemon(): Promise<void> {
    const pid = await host.daemonPid();
    process.kill(pid, 'SIGKILL');
    await until(async () => (await host.daemonPid().catch(() => pid)) !== pid);
  }

  it('shares addresses, loopback, published ports and names, and nothing else', async () => {
    const listening = "until grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done";
    const serve = `echo own > /root/file; nc -ll -p 80 -e echo side & ${listening}; echo ready; wait`;
    await host.ok(inside('-d', '--name', 'side', 'busybox', 'sh', '-c', serve));
    for (let said = ''; !said.includes('ready'); ) said = await host.ok(['logs', 'side']);
    expect(await readFrom(netns.netns, '127.0.0.1', 8080)).to.equal('side\n');
    expect(await exec('web', 'nc -w 9 127.0.0.1 80 </dev/null')).to.equal('side');
    const looks = 'hostname; echo $HOSTNAME; cat /etc/hostname /etc/hosts /etc/resolv.conf; ip -o addr';
    expect(await exec('side', looks))
      .to.equal(await exec('web', looks))
      .and.to.match(/^shop\nshop\nshop\n/);
    await exec('web', 'echo 192.0.2.8 late >> /etc/hosts');
    expect(await exec('side', 'tail -n1 /etc/hosts')).to.equal('192.0.2.8 late');
    expect(await exec('web', 'ls /root; ps | grep -c "[n]c -ll" || true')).to.equal('0');
    expect(await inspect('side', '{{.HostConfig.NetworkMode}} {{.State.VmPid}}')).to.equal(
      `container:${await inspect('web', '{{.Id}} {{.State.VmPid}}')}`,
    );
    const connect = await host.hrun(['network', 'connect', 'bridge', 'side']);
    expect(connect.stderr).to.contain('container sharing network namespace with another container');
  });

  it('comes and goes while the other runs, keeps its files, and leaves no disk behind', async () => {
    const count = 'echo x >> /root/file; wc -l < /root/file; exit 3';
    const volume = '--mount=type=volume,src=first,dst=/data,volume-driver=disk';
    const first = await host.hrun(inside('--name', 'side', volume, 'busybox', 'sh', '-c', count));
    expect(first).to.deep.equal({ code: 3, stdout: '1\n', stderr: '' });
    expect(await host.hrun(['start', '-a', 'side'])).to.deep.equal({ code: 3, stdout: '2\n', stderr: '' });
    expect((await host.hrun(inside('--rm', 'busybox', 'nosuch'))).code).to.equal(127);
    expect(await exec('web', 'ls /sys/block | grep -c ^sd || true')).to.equal('0');
    await host.ok(inside('-d', '--name', 'more', volume, 'busybox', 'sleep', '1000'));
    await host.ok(['cp', 'more:/etc/passwd', host.directory]);
    expect(await readFile(join(host.directory, 'passwd'), 'utf8')).to.contain('root');
    await host.ok(['rm', '-f', 'more']);
    expect(await exec('web', 'ls /sys/block | grep -c ^sd || true')).to.equal('0');
    expect(await host.ok(['ps', '-q'])).to.equal((await inspect('web', '{{.Id}}')).slice(0, 12));
  });

  it('ends with the container whose microVM it is, with its disks written back', async () => {
    const write = 'echo kept > /data/file; echo own > /root/file; echo ready; exec sleep 1000';
    const volume = '--mount=type=volume,src=second,dst=/data,volume-driver=disk';
    await host.ok(inside('-d', '--name', 'side', volume, 'busybox', 'sh', '-c', write));
    for (let said = ''; !said.includes('ready'); ) said = await host.ok(['logs', 'side']);
    await host.ok(['stop', '-t', '0', 'web']);
    expect(await inspect('side', '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}')).to.equal(
      'exited 137 the microVM ended with container web, whose it was',
    );
    const { code, stderr } = await host.hrun(['start', 'side']);
    expect(code).to.equal(1);
    expect(stderr).to.contain('cannot join network of a non running container: web');
    await host.ok(['start', 'web', 'side']);
    expect(await exec('side', 'cat /data/file /root/file')).to.equal('kept\nown');
    await host.ok(['rm', '-f', 'web']);
    expect(await inspect('side', '{{.State.Status}}')).to.equal('exited');
    expect((await host.hrun(['start', 'side'])).stderr).to.contain('No such container');
  });

  it('ends when the microVM dies', async () => {
    await host.ok(inside('-d', '--name', 'side', 'busybox', 'sleep', '1000'));
    process.kill(Number(await inspect('web', '{{.State.VmPid}}')), 'SIGKILL');
    expect(await host.ok(['wait', 'side', 'web'])).to.equal('137\n137');
  });

  it('lives through a dead daemon, with all output and the code', async () => {
    const script = 'i=0; while [ $i -lt 30 ]; do echo $i; i=$((i+1)); sleep 0.1; done; exit 5';
    const child = host.start(inside('--rm', '--name', 'side', 'busybox', 'sh', '-c', script), {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const result = resultOf(child);
    await until(async () => (await host.hrun(['logs', 'side'])).stdout !== '');
    await killDaemon();
    await killDaemon();
    const { code, stdout } = await result;
    expect(stdout.trim().split('\n')).to.deep.equal([...Array(30).keys()].map(String));
    expect(code).to.equal(5);
    expect(await exec('web', 'ls /sys/block | grep -c ^sd || true')).to.equal('0');
  });

  it('leaves nothing in the microVM when its daemon dies before it runs', async () => {
    const emulator = Number(await inspect('web', '{{.State.VmPid}}'));
    // what is asked of it now, it does when it goes on
    process.kill(emulator, 'SIGSTOP');
    const result = resultOf(
      host.start(inside('--name', 'half', 'busybox', 'true'), { stdio: ['ignore', 'ignore', 'pipe'] }),
    );
    await until(async () => (await host.hrun(['ps', '-aq', '--filter', 'name=half'])).stdout !== '');
    const id = (await inspect('half', '{{.Id}}')).trim();
    const path = join(host.root, 'containers', id, 'container.json');
    await until(async () => (await readFile(path, 'utf8')).includes('"joined"'));
    const pid = await host.daemonPid();
    process.kill(pid, 'SIGKILL');
    process.kill(emulator, 'SIGCONT');
    expect((await result).code).to.equal(125);
    expect(await host.ok(['ps', '-aq'])).to.equal((await inspect('web', '{{.Id}}')).slice(0, 12));
    await until(async () => (await exec('web', 'ls /sys/block | grep -c ^sd || true')) === '0');
    expect((await host.hrun(inside('--rm', 'busybox', 'true'))).code).to.equal(0);
  });

  it('takes no directory of the host', async () => {
    for (const volume of ['/tmp:/data', 'directory:/data']) {
      const { code, stderr } = await host.hrun(inside('--rm', '-v', volume, 'busybox', 'true'));
      expect(code, volume).to.equal(125);
      expect(stderr).to.contain('directories of the host and the container type network mode');
    }
    expect(
      (await host.hrun(['run', '--rm', '--network', 'container:nosuch', 'busybox', 'true'])).stderr,
    ).to.contain('No such container: nosuch');
  });
});
