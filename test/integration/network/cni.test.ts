import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { type HrunHost, newHrunHost } from '../../helpers/hrunHost.ts';
import { newNetns, type TestNetns } from '../../helpers/netns.ts';
import { readFrom } from '../../helpers/netService.ts';

describe('hrun run with a CNI network', () => {
  let netns: TestNetns;
  let host: HrunHost;
  let leases: string;
  let world: TestNetns;
  let calls: string;

  before(async () => {
    [netns, world] = [await newNetns(), await newNetns()];
    netns.run('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'w0', 'netns', String(world.pid));
    for (const [side, name, end] of [
      [netns, 'up0', 1],
      [world, 'w0', 2],
    ] as const) {
      side.run('ip', 'addr', 'add', `192.0.2.${end}/24`, 'dev', name);
      side.run('ip', 'link', 'set', name, 'up');
    }
    world.run('ip', 'addr', 'add', '10.67.0.1/24', 'dev', 'w0');
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
    calls = join(host.directory, 'calls');
    await writeFile(calls, '');
    const recorder = { type: 'recorder', capabilities: { aliases: true, mac: true } };
    const inner = { ...ipam, ranges: [[{ subnet: '10.67.0.0/24', rangeStart: '10.67.0.20' }]] };
    const lists: Readonly<Record<string, readonly object[]>> = {
      shop: [{ type: 'bridge', bridge: 'cni0', isGateway: true, mtu: 1400, ipam }],
      broken: [{ type: 'bridge', bridge: 'cni0', isGateway: true, ipam }, { type: 'garbage' }],
      missing: [{ type: 'nosuchplugin' }],
      routed: [
        { type: 'ptp', ipam },
        { type: 'portmap', capabilities: { portMappings: true } },
        { type: 'firewall' },
        { type: 'bandwidth', capabilities: { bandwidth: true } },
        { type: 'tuning', capabilities: { mac: true } },
      ],
      wire: [{ type: 'macvlan', master: 'up0', ipam: { ...inner, routes: [] } }],
      delegated: [{ type: 'delegator', delegate: { isGateway: true, bridge: 'cni0', ipam } }, recorder],
      early: [{ type: 'bridge', bridge: 'cni0', isGateway: true, ipam }, recorder],
      quiet: [{ type: 'bridge', bridge: 'cni0', isGateway: true, ipam }, recorder],
    };
    for (const [name, list] of Object.entries(lists)) {
      const config = {
        cniVersion: name === 'early' ? '0.3.1' : '1.0.0',
        name,
        ...(name === 'quiet' && { disableCheck: true }),
        plugins: list,
      };
      await writeFile(join(configs, `${name}.conflist`), JSON.stringify(config));
    }
    const programs = {
      garbage: 'echo garbage',
      // what was given to it, and on ADD the result of the one before
      recorder: `input=$(cat)
        echo "$input" | jq -c --arg command "$CNI_COMMAND" '[$command, .runtimeConfig, .prevResult != null]' >> ${calls}
        [ "$CNI_COMMAND" != ADD ] || echo "$input" | jq .prevResult`,
      // has another do the work, as flannel does
      delegator: `jq '.delegate + {cniVersion, name, type: "bridge", prevResult}' | /usr/lib/cni/bridge`,
    };
    for (const [name, script] of Object.entries(programs)) {
      await writeFile(join(plugins, name), `#!/bin/sh\n${script}\n`);
      await chmod(join(plugins, name), 0o755);
    }
    const config = { cniConfigDir: configs, cniPath: [plugins, '/usr/lib/cni'] };
    await writeFile(join(host.directory, 'config.json'), JSON.stringify(config));
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
    expect(await leased()).to.deep.equal([]);
    expect(netns.run('ip', '-o', 'link')).not.to.match(/: (veth|bwp)/);
    await writeFile(calls, '');
  });
  const called = async () =>
    (await readFile(calls, 'utf8'))
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line));

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

  it('is a chain of ptp, portmap, firewall, bandwidth and tuning, which get what they can do', async () => {
    const listening = "until grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done";
    const serve = `nc -ll -p 80 -e cat /sys/class/net/eth0/address & ${listening}; echo ready; wait`;
    await host.ok([
      ...['run', '-d', '--name', 'web', '--network', 'cni:routed', '-p', '8080:80', '--net-rate', '1m'],
      ...['--mac-address', '02:00:00:00:00:77', 'busybox', 'sh', '-c', serve],
    ]);
    for (let said = ''; !said.includes('ready'); ) said = await host.ok(['logs', 'web']);
    expect(await readFrom(world.netns, '192.0.2.1', 8080)).to.equal('02:00:00:00:00:77\n');
    expect(netns.run('tc', 'qdisc')).to.match(/tbf .* rate 8388Kbit/);
    process.kill(await host.daemonPid(), 'SIGKILL');
    expect(await readFrom(world.netns, '192.0.2.1', 8080)).to.equal('02:00:00:00:00:77\n');
    await host.ok(['rm', '-f', 'web']);
    expect(netns.run('nft', 'list', 'ruleset')).not.to.contain('8080');
  });

  it('is a macvlan on a wire of the host', async () => {
    const { stdout, stderr } = await host.hrun([
      ...['run', '--rm', '--network', 'cni:wire', 'busybox'],
      ...['sh', '-c', 'ip -o -4 addr show eth0; ping -c1 -W30 10.67.0.1 >/dev/null && echo reached'],
    ]);
    expect(stdout, stderr).to.contain('10.67.0.20/24').and.contain('reached');
  });

  it('asks plugins after a crash whether their work is there, and only those that can tell', async () => {
    for (const [name, checks] of [
      ['delegated', ['CHECK']],
      ['early', []],
      ['quiet', []],
    ] as const) {
      await writeFile(calls, '');
      const flags = ['--network', `cni:${name}`, '--network-alias', 'shop'];
      const id = await host.ok(['run', '-d', '--name', 'web', ...flags, 'busybox', 'sleep', '1000']);
      const pid = await host.daemonPid();
      process.kill(pid, 'SIGKILL');
      while ((await host.daemonPid().catch(() => pid)) === pid) await host.ok(['ps']);
      const wanted = ['ADD', ...checks];
      while ((await called()).length < wanted.length) await host.ok(['ps']);
      await host.ok(['rm', '-f', 'web']);
      // what they find is told in the log
      const log = (await readFile(join(host.run, 'hrund.log'), 'utf8')).split('\n');
      expect(log.filter((line) => line.includes(id) && line.includes('CHECK'))).to.deep.equal([]);
      const given = { aliases: ['shop'] };
      const hasResult = (command: string) => !(name === 'early' && command === 'DEL');
      expect(await called(), name).to.deep.equal(
        [...wanted, 'DEL'].map((command) => [command, given, hasResult(command)]),
      );
    }
  });

  it('refuses what no plugin takes', async () => {
    for (const [flags, text] of [
      [['-p', '8080:80'], 'takes no --publish: none of its plugins has the capability portMappings'],
      [['--mac-address', '02:00:00:00:00:77'], 'takes no --mac-address'],
      [['--ip', '10.66.0.9'], 'takes no --ip'],
      [['--network-alias', 'a'], 'takes no --network-alias'],
      [['--net-rate', '1m'], 'takes no --net-rate'],
      [['--egress', 'none'], 'knows no --egress'],
    ] as const) {
      const { code, stderr } = await host.hrun([
        'run',
        '--rm',
        '--network',
        'cni:shop',
        ...flags,
        'busybox',
        'true',
      ]);
      expect(code, stderr).to.equal(125);
      expect(stderr).to.contain(text);
    }
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
