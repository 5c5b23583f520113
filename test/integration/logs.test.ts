import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readdir, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { peakBytes } from '../helpers/hostileAgent.ts';
import { type HrunHost, newHrunHost, resultOf } from '../helpers/hrunHost.ts';

const run = promisify(execFile);
const mebibyte = 2 ** 20;

describe('logs', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost({ config: { poolReady: 0 } });
  });
  after(() => host[Symbol.asyncDispose]());

  /** Numbers one to a line, as `seq` prints them. */
  const numbers = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, index) => `${from + index}\n`).join('');

  it('keep as much as --log-opt says, the newest, over all files', async () => {
    await host.ok([
      ...['run', '-d', '--name', 'cc', '--log-opt', 'max-size=64k', '--log-opt', 'max-file=3'],
      ...['busybox', 'sh', '-c', 'seq 1 100000; seq 1 5 >&2'],
    ]);
    expect(await host.ok(['wait', 'cc'])).to.equal('0');
    const id = await host.ok(['inspect', '-f', '{{.Id}}', 'cc']);
    const names = (await readdir(join(host.root, 'containers', id))).filter((name) =>
      name.startsWith('output'),
    );
    expect(names.toSorted()).to.deep.equal(['output.log', 'output.log.1', 'output.log.2']);
    const { stdout, stderr } = await host.hrun(['logs', 'cc']);
    expect(stderr).to.equal(numbers(1, 5));
    const all = numbers(1, 100_000);
    expect(all.endsWith(stdout)).to.equal(true);
    expect(stdout.length).to.be.within(100_000, 3 * 65_536);
    expect((await host.hrun(['logs', '--tail', '2', 'cc'])).stdout.length).to.be.lessThan(20);
    expect(await host.ok(['inspect', '-f', '{{json .HostConfig.LogConfig}}', 'cc'])).to.equal(
      '{"Type":"json-file","Config":{"max-size":"65536","max-file":"3"}}',
    );
    await host.ok(['rm', 'cc']);
  });

  it('lose nothing of what an attached command is to see, however little is kept', async () => {
    const { code, stdout } = await host.hrun([
      ...['run', '--rm', '--log-opt', 'max-size=64k', '--log-opt', 'max-file=1'],
      ...['busybox', 'seq', '1', '100000'],
    ]);
    expect({ code, stdout: stdout === numbers(1, 100_000) }).to.deep.equal({ code: 0, stdout: true });
  });

  it('refuse what they do not know', async () => {
    for (const [option, reason] of [
      ['max-size=1k', /too little/],
      ['max-size=x', /max-size/],
      ['max-file=0', /1 to 1000/],
      ['compress=true', /unknown log option/],
    ] as const) {
      const { code, stderr } = await host.hrun(['run', '--log-opt', option, 'busybox']);
      expect(code, option).to.equal(125);
      expect(stderr).to.match(reason);
    }
    expect((await host.hrun(['create', '--log-driver', 'syslog', 'busybox'])).stderr).to.match(
      /json-file and local/,
    );
  });

  it('cost no memory when nobody reads: the workload waits', async () => {
    const attached = host.start(
      ['run', '--name', 'unread', 'busybox', 'sh', '-c', 'yes | head -c 400000000'],
      {
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    );
    await once(attached.stdout as NodeJS.ReadableStream, 'readable');
    const lengthOf = async () => (await host.hrun(['logs', 'unread'])).stdout.length;
    // the pipe is full, and all that may wait behind it: then it stands still
    let before = -1;
    for (let now = await lengthOf(); now !== before; now = await lengthOf()) {
      before = now;
      await sleep(500);
    }
    expect(before).to.be.lessThan(4 * mebibyte);
    expect(await peakBytes(await host.daemonPid())).to.be.lessThan(160 * mebibyte);
    expect(await host.ok(['inspect', '-f', '{{.State.Status}}', 'unread'])).to.equal('running');
    attached.kill('SIGKILL');
    await host.ok(['rm', '-f', 'unread']);
  });
});

describe('a full disk of logs', () => {
  let host: HrunHost;
  let containers: string;
  /** A little less than this is left to state files. */
  const reservedBytes = 4 * mebibyte;

  before(async () => {
    host = await newHrunHost({ config: { poolReady: 0, logMaxSize: '1g' } });
    await host.ok(['run', '--rm', 'busybox', 'true']);
    await host.ok(['daemon', 'stop']);
    containers = join(host.root, 'containers');
    await run('mount', ['-t', 'tmpfs', '-o', 'size=24m,mode=700', 'hrun-test', containers]);
  });
  after(async () => {
    await host.ok(['daemon', 'stop', '-f']);
    await run('umount', [containers]);
    await host[Symbol.asyncDispose]();
  });

  /** Takes what is left of the disk, but for `bytes`, until disposed. */
  async function leaving(bytes: number): Promise<AsyncDisposable> {
    const { bavail, bsize } = await statfs(containers);
    const filler = join(host.root, 'containers', '.filler.removing');
    await writeFile(filler, Buffer.alloc(bavail * bsize - bytes));
    return { [Symbol.asyncDispose]: () => rm(filler) };
  }

  it('filled by a workload itself keeps the newest output, and lets it end as it ends', async () => {
    await host.ok([
      'run',
      '-d',
      '--name',
      'loud',
      'busybox',
      'sh',
      '-c',
      'head -c 40000000 /dev/zero; echo the end; exit 7',
    ]);
    expect(await host.ok(['wait', 'loud'])).to.equal('7');
    const { stdout } = await host.hrun(['logs', 'loud']);
    expect(stdout.endsWith(`${'\0'.repeat(100_000)}the end\n`)).to.equal(true);
    await host.ok(['rm', 'loud']);
  });

  it('takes nothing from an attached command', async () => {
    const script = 'head -c 40000000 /dev/zero; exit 3';
    const { code, stdout } = await host.hrun(['run', '--rm', 'busybox', 'sh', '-c', script]);
    expect({ code, length: stdout.length }).to.deep.equal({ code: 3, length: 40_000_000 });
  });

  it('filled by others stops no workload, and takes nothing from an attached command', async () => {
    const script = 'until test -e /go; do sleep 0.1; done; seq 1 100000; exit 5';
    await host.ok(['run', '-d', '--name', 'detached', 'busybox', 'sh', '-c', script]);
    const attached = host.start(['run', '--name', 'attached', 'busybox', 'sh', '-c', script], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const told = resultOf(attached);
    while ((await host.hrun(['exec', 'attached', 'true'])).code !== 0) await sleep(50);
    await using _full = await leaving(reservedBytes / 2);
    for (const name of ['detached', 'attached']) await host.ok(['exec', name, 'touch', '/go']);
    expect(await host.ok(['wait', 'detached'])).to.equal('5');
    const { code, stdout } = await told;
    expect(code).to.equal(5);
    expect(stdout.split('\n')).to.have.length(100_001);
    expect((await host.hrun(['logs', '--tail', '1', 'detached'])).stdout).to.equal('100000\n');
    await host.ok(['rm', '-f', 'detached', 'attached']);
  });
});
