import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { type HrunHost, newHrunHost, resultOf } from '../helpers/hrunHost.ts';

/** Containers with directories of the host, in microVMs that were booted before anybody asked for them. */
describe('a container with binds, out of the pool', () => {
  let host: HrunHost;
  let shared: string;
  let flags: string[];

  before(async () => {
    host = await newHrunHost({ config: { poolReady: 1, poolRefillPauseMs: 0 } });
    shared = join(host.directory, 'shared');
    await mkdir(join(shared, 'below'), { recursive: true });
    await writeFile(join(shared, 'word'), 'of the host\n');
    await chmod(join(shared, 'word'), 0o640);
    flags = ['-v', `${shared}:/data`, '-v', `${shared}:/ro:ro`, '-v', `${join(shared, 'word')}:/etc/word`];
    await host.ok(['run', '--rm', ...flags, 'busybox', 'true']);
  });
  after(() => host[Symbol.asyncDispose]());
  beforeEach(async () => {
    while (!(await isWaiting())) await sleep(50);
  });
  afterEach(async () => {
    const left = await host.ok(['ps', '-aq']);
    if (left !== '') await host.ok(['rm', '-f', ...left.split('\n')]);
  });

  async function isWaiting(): Promise<boolean> {
    const { shelves } = JSON.parse(await host.ok(['pool', 'status', '--format', 'json']));
    return shelves.some(
      ({ kind, ready }: { kind: string; ready: number }) => kind === 'share' && ready === 1,
    );
  }

  const serversLeft = async () =>
    (await host.processes()).filter(({ command }) => command.includes('virtiofsd')).length;

  it('has them both ways, read-only where it was asked for', async () => {
    const script = [
      'cat /data/word /ro/word /etc/word',
      'stat -c %a /data/word',
      'echo from the guest > /data/below/answer',
      'echo x > /ro/word 2>/dev/null || echo read-only',
      'ls /data',
    ];
    const { code, stdout, stderr } = await host.hrun([
      ...['run', '--rm', '--timing', ...flags, 'busybox'],
      ...['sh', '-c', script.join(';')],
    ]);
    expect([code, stdout], stderr).to.deep.equal([
      0,
      `${'of the host\n'.repeat(3)}640\nread-only\nbelow\nword\n`,
    ]);
    expect(stderr).to.match(/^launch: pooled$/m);
    expect(await readFile(join(shared, 'below/answer'), 'utf8')).to.equal('from the guest\n');
  });

  it('leaves neither server nor stand-in when it ends', async () => {
    await host.ok(['run', '--rm', ...flags, 'busybox', 'true']);
    await host.ok(['pool', 'set', '--ready', '0']);
    while ((await serversLeft()) > 0) await sleep(50);
    await host.ok(['pool', 'set', '--ready', '1']);
  });

  it('keeps them when the daemon is killed, and gives them back at its end', async () => {
    const script = 'while [ ! -e /data/go ]; do sleep 0.1; done; cat /data/go; exit 4';
    await host.ok(['run', '-d', '--name', 'kept', ...flags, 'busybox', 'sh', '-c', script]);
    const pid = await host.daemonPid();
    process.kill(pid, 'SIGKILL');
    while ((await host.daemonPid().catch(() => pid)) === pid) await sleep(20);
    await writeFile(join(shared, 'go'), 'went\n');
    expect(await host.ok(['wait', 'kept'])).to.equal('4');
    expect(await host.ok(['logs', 'kept'])).to.equal('went');
    while ((await serversLeft()) > 0) await sleep(50);
    // the next daemon learns the shape anew
    await host.ok(['run', '--rm', ...flags, 'busybox', 'true']);
  });

  it('is booted for a caller in a pid namespace of his own', async () => {
    const command = ['--pid', '--fork', '--mount-proc', host.path];
    const run = ['run', '--rm', '--timing', ...flags, 'busybox', 'cat', '/etc/word'];
    const { code, stdout, stderr } = await resultOf(host.startOther('unshare', [...command, ...run]));
    expect([code, stdout], stderr).to.deep.equal([0, 'of the host\n']);
    expect(stderr).to.match(/^launch: cold/m);
  });
});
