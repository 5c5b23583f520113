import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { type HrunHost, newHrunHost } from '../../helpers/hrunHost.ts';
import { newNetns, type TestNetns } from '../../helpers/netns.ts';

describe('hrun run with a CNI network', () => {
  let netns: TestNetns;
  let host: HrunHost;
  let leases: string;

  before(async () => {
    netns = await newNetns();
    host = await newHrunHost({ netns: netns.netns });
    const [configs, plugins] = [join(host.directory, 'net.d'), join(host.directory, 'bin')];
    leases = join(host.directory, 'leases');
    for (const directory of [configs, plugins]) await mkdir(directory);
    const ipam = {
      type: 'host-local',
      dataDir: leases,
      ranges: [[{ subnet: '10.66.0.0/24' }]],
      routes: [{ dst: '0.0.0.0/0' }],
    };
    const lists: Readonly<Record<string, readonly object[]>> = {
      shop: [{ type: 'bridge', bridge: 'cni0', isGateway: true, mtu: 1400, ipam }],
      broken: [{ type: 'bridge', bridge: 'cni0', isGateway: true, ipam }, { type: 'garbage' }],
      missing: [{ type: 'nosuchplugin' }],
    };
    for (const [name, list] of Object.entries(lists)) {
      const config = { cniVersion: '1.0.0', name, plugins: list };
      await writeFile(join(configs, `${name}.conflist`), JSON.stringify(config));
    }
    await writeFile(join(plugins, 'garbage'), '#!/bin/sh\necho garbage\n');
    await chmod(join(plugins, 'garbage'), 0o755);
    const config = { cniConfigDir: configs, cniPath: [plugins, '/usr/lib/cni'] };
    await writeFile(join(host.directory, 'config.json'), JSON.stringify(config));
    await host.ok(['run', '--rm', '--network', 'none', 'busybox', 'true']);
  });
  after(async () => {
    await host[Symbol.asyncDispose]();
    await netns[Symbol.asyncDispose]();
  });
  afterEach(async () => {
    const left = await host.ok(['ps', '-aq']);
    if (left !== '') await host.ok(['rm', '-f', ...left.split('\n')]);
    expect(await leased()).to.deep.equal([]);
    expect(netns.run('ip', '-o', 'link')).not.to.contain('veth');
  });

  const leased = async () =>
    (await readdir(leases, { recursive: true }).catch(() => [])).filter((name) =>
      /10\.66\.\d+\.\d+$/.test(name),
    );

  it('gives the guest what the plugins made, and has them undo it', async () => {
    const script =
      'ip -o -4 addr show eth0; ip route; cat /sys/class/net/eth0/mtu; ping -c1 -W9 10.66.0.1 >/dev/null && echo reached';
    const { stdout, stderr } = await host.hrun([
      'run',
      '--rm',
      '--network',
      'cni:shop',
      'busybox',
      'sh',
      '-c',
      script,
    ]);
    expect(stdout, stderr)
      .to.contain('10.66.0.2/24')
      .and.contain('default via 10.66.0.1')
      .and.contain('1400\nreached');
  });

  it('has them undo it also after a crash of the daemon', async () => {
    await host.ok([
      'run',
      '-d',
      '--rm',
      '--name',
      'web',
      '--network',
      'cni:shop',
      'busybox',
      'sleep',
      '1000',
    ]);
    expect(await leased()).to.have.length(1);
    process.kill(await host.daemonPid(), 'SIGKILL');
    await host.ok(['rm', '-f', 'web']);
  });

  it('says what is wrong with configuration or plugin, and leaves nothing', async () => {
    for (const [name, text] of [
      ['nosuch', 'is named "nosuch"'],
      ['missing', 'CNI plugin nosuchplugin is not in'],
      ['broken', 'CNI plugin garbage failed to ADD: it printed no JSON'],
    ] as const) {
      const { code, stderr } = await host.hrun([
        'run',
        '--rm',
        '--network',
        `cni:${name}`,
        'busybox',
        'true',
      ]);
      expect(code, stderr).to.equal(125);
      expect(stderr).to.contain(text);
      expect(await leased()).to.deep.equal([]);
    }
  });
});
