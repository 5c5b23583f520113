import { access, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { type HrunHost, newHrunHost } from '../../helpers/hrunHost.ts';

/** What the guest takes is far more, and within what it has. */
const roomBytes = 32 * 1024 * 1024;
const outgrow = 'dd if=/dev/zero of=/big/x bs=1M count=300';

describe('a microVM that the host has no memory for', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost({ config: { poolReady: 0 } });
  });
  after(() => host[Symbol.asyncDispose]());

  /** Leaves the cgroup of a container's QEMU little room beyond what it has. */
  async function limit(container: string): Promise<void> {
    const told = await host.ok(['inspect', '-f', '{{json .HostConfig.Jail.Cgroups}}', container]);
    for (const directory of JSON.parse(told) as string[]) {
      for (const [usage, most] of [
        ['memory.current', 'memory.max'],
        ['memory.usage_in_bytes', 'memory.limit_in_bytes'],
      ] as const) {
        const path = join(directory, usage);
        if (!(await isThere(path))) continue;
        await writeFile(join(directory, most), String(Number(await readFile(path, 'utf8')) + roomBytes));
        return;
      }
    }
    throw new Error(`no cgroup limits the memory of ${container}`);
  }

  async function stateOf(container: string): Promise<Record<string, unknown>> {
    return JSON.parse(await host.ok(['inspect', '-f', '{{json .State}}', container]));
  }

  it('is told as such, with 137 and the reason', async () => {
    await host.ok(['run', '-d', '--name', 'big', '--tmpfs', '/big', 'busybox', 'sleep', '100000']);
    await limit('big');
    expect((await host.hrun(['exec', 'big', 'sh', '-c', outgrow])).code).not.to.equal(0);
    expect(await host.ok(['wait', 'big'])).to.equal('137');
    const state = await stateOf('big');
    expect(state).to.include({ Status: 'exited', ExitCode: 137, OOMKilled: true });
    expect(state.Error).to.match(/the kernel of the host killed QEMU: the memory of .* was used up/);
    const events = await host.ok(['events', '--since', '1h', '--until', '0s', '--format', '{{.Action}}']);
    expect(events.split('\n')).to.include.members(['oom', 'die']);
    await host.ok(['rm', 'big']);
  });

  it('is told as such by the next daemon, when there was none', async () => {
    const script = `read go; ${outgrow}`;
    const attached = host.start(
      ['run', '-i', '--name', 'big', '--tmpfs', '/big', 'busybox', 'sh', '-c', script],
      { stdio: ['pipe', 'ignore', 'ignore'] },
    );
    while ((await host.hrun(['inspect', '-f', '{{.State.Status}}', 'big'])).stdout !== 'running\n')
      await sleep(50);
    await limit('big');
    const qemu = Number((await stateOf('big')).VmPid);
    const daemon = await host.daemonPid();
    attached.stdin?.end('go\n');
    // once its QEMU begins to grow it needs no daemon any more
    const before = await residentKiB(qemu);
    while ((await residentKiB(qemu)) - before < 4096 && (await isThere(`/proc/${qemu}/stat`))) await sleep(5);
    process.kill(daemon, 'SIGSTOP');
    while (await runs(qemu)) await sleep(50);
    process.kill(daemon, 'SIGKILL');
    expect(await stateOf('big')).to.include({ Status: 'exited', ExitCode: 137, OOMKilled: true });
    await host.ok(['rm', 'big']);
  });
});

async function residentKiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0);
}

/** A zombie does not: whoever is stopped cannot collect it. */
async function runs(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat !== '' && !/\) [ZX] /.test(stat);
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
