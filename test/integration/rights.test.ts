import { spawn } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { type HrunHost, newHrunHost } from '../helpers/hrunHost.ts';

/** Numbers of capabilities(7). */
const capability = {
  ...{
    chown: 0,
    dacOverride: 1,
    dacReadSearch: 2,
    fowner: 3,
    fsetid: 4,
    kill: 5,
    setgid: 6,
    setuid: 7,
    setpcap: 8,
  },
  ...{ netBindService: 10, netAdmin: 12, netRaw: 13, sysChroot: 18, sysPtrace: 19, sysAdmin: 21 },
  ...{ sysResource: 24, mknod: 27, setfcap: 31 },
} as const;

/** As docs/security.md says, "The daemon" and "Share servers". */
const daemonHas = Object.values(capability);
const standInHas = [capability.sysAdmin, capability.dacReadSearch];

/** What of the rights of a process, and of each of its threads, is more than `allowed`, or may be regained. */
async function surplusOf(pid: number, allowed: readonly number[]): Promise<string[]> {
  const most = allowed.reduce((bits, number) => bits | (1n << BigInt(number)), 0n);
  const surplus = new Set<string>();
  for (const thread of await readdir(`/proc/${pid}/task`)) {
    const status = await readFile(`/proc/${pid}/task/${thread}/status`, 'utf8');
    const field = (name: string) => new RegExp(`^${name}:\\s+(\\w+)$`, 'm').exec(status)?.[1] ?? '';
    for (const name of ['CapPrm', 'CapEff', 'CapBnd']) {
      if ((BigInt(`0x${field(name)}`) & ~most) !== 0n) surplus.add(name);
    }
    for (const name of ['CapInh', 'CapAmb']) if (BigInt(`0x${field(name)}`) !== 0n) surplus.add(name);
    if (field('NoNewPrivs') !== '1') surplus.add('NoNewPrivs');
  }
  return [...surplus];
}

describe('the rights of what runs beside a microVM', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost({ config: { poolReady: 0 } });
    await host.ok(['version']);
  });
  after(() => host[Symbol.asyncDispose]());

  it('of the daemon and its keeper are those that are used', async () => {
    const pid = await host.daemonPid();
    const keeper = Number(/^PPid:\s+(\d+)$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]);
    expect(await readFile(`/proc/${keeper}/cmdline`, 'utf8')).to.contain('keeper');
    for (const one of [pid, keeper]) expect(await surplusOf(one, daemonHas)).to.deep.equal([]);
  });

  it('of a stand-in are to take its mounts away, while it serves them', async () => {
    const name = await host.ok(['run', '-d', '-v', '/usr/share/doc:/x:ro', 'busybox', 'sleep', '1000']);
    const pid = Number(await host.ok(['inspect', '--format', '{{.State.Pid}}', name]));
    expect(await surplusOf(pid, standInHas)).to.deep.equal([]);
    expect(await host.ok(['exec', name, 'ls', '-d', '/x/base-files'])).to.equal('/x/base-files');
    await host.ok(['rm', '-f', name]);
    expect(
      (await host.processes()).filter(({ command }) => /stand-in|virtiofsd/.test(command)),
    ).to.deep.equal([]);
  });

  it('are seen where they are more', async () => {
    const child = spawn('sleep', ['1000']);
    try {
      expect(await surplusOf(child.pid ?? 0, standInHas)).to.deep.equal([
        'CapPrm',
        'CapEff',
        'CapBnd',
        'NoNewPrivs',
      ]);
    } finally {
      child.kill();
    }
  });
});
