import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { type HrunHost, newHrunHost, resultOf } from '../helpers/hrunHost.ts';

/** Waits for something that is bound to happen; the suite's time-out is the limit. */
async function until<T>(probe: () => Promise<T | undefined | false>): Promise<T> {
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== false) return found;
    await sleep(20);
  }
}

describe('whatever dies', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost();
    await host.ok(['run', '--rm', 'busybox', 'true']);
  });
  after(() => host[Symbol.asyncDispose]());
  afterEach(async () => {
    const left = await host.ok(['ps', '-aq']);
    if (left !== '') await host.ok(['rm', '-f', ...left.split('\n')]);
  });

  async function killDaemon(): Promise<void> {
    const pid = await host.daemonPid();
    process.kill(pid, 'SIGKILL');
    await until(async () => (await host.daemonPid().catch(() => pid)) !== pid);
  }

  async function state(
    container: string,
  ): Promise<{ Status: string; ExitCode: number; Error: string; VmPid: number }> {
    return JSON.parse(await host.ok(['inspect', '--format', '{{json .State}}', container]));
  }

  it('an attached command lives through a dead daemon, with all output and the code', async () => {
    const script = 'i=0; while [ $i -lt 30 ]; do echo $i; i=$((i+1)); sleep 0.1; done; exit 5';
    const child = host.start(['run', '--rm', 'busybox', 'sh', '-c', script], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const result = resultOf(child);
    await once(child.stdout as NodeJS.ReadableStream, 'readable');
    await killDaemon();
    await killDaemon();
    const { code, stdout } = await result;
    expect(stdout.trim().split('\n')).to.deep.equal([...Array(30).keys()].map(String));
    expect(code).to.equal(5);
    expect(await host.ok(['ps', '-aq'])).to.equal('');
  });

  it('input that was on its way when the daemon died arrives once', async () => {
    const child = host.start(['run', '--rm', '-i', 'busybox', 'cat'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const result = resultOf2(child);
    child.stdin?.write('one\n');
    await once(child.stdout as NodeJS.ReadableStream, 'readable');
    process.kill(await host.daemonPid(), 'SIGKILL');
    child.stdin?.write('two\n');
    child.stdin?.end('three\n');
    expect(await result).to.equal('one\ntwo\nthree\n');
  });

  it('an exec lives through a dead daemon', async () => {
    await host.ok(['run', '-d', '--name', 'cc', 'busybox', 'sleep', '1000']);
    const script = 'i=0; while [ $i -lt 20 ]; do echo $i; i=$((i+1)); sleep 0.1; done; exit 6';
    const child = host.start(['exec', 'cc', 'sh', '-c', script], { stdio: ['ignore', 'pipe', 'pipe'] });
    const result = resultOf(child);
    await once(child.stdout as NodeJS.ReadableStream, 'readable');
    await killDaemon();
    const { code, stdout } = await result;
    expect(stdout.trim().split('\n')).to.deep.equal([...Array(20).keys()].map(String));
    expect(code).to.equal(6);
  });

  it('a detached container is there again, with its log', async () => {
    await host.ok([
      'run',
      '-d',
      '--name',
      'dd',
      'busybox',
      'sh',
      '-c',
      'echo before; sleep 2; echo after; exit 4',
    ]);
    await killDaemon();
    expect(await host.ok(['wait', 'dd'])).to.equal('4');
    expect(await host.ok(['logs', 'dd'])).to.equal('before\nafter');
    expect(await state('dd')).to.include({ Status: 'exited', ExitCode: 4, VmPid: 0 });
  });

  it('a container whose QEMU is killed did not succeed', async () => {
    await host.ok(['run', '-d', '--name', 'qq', 'busybox', 'sleep', '1000']);
    process.kill((await state('qq')).VmPid, 'SIGKILL');
    expect(await host.ok(['wait', 'qq'])).to.equal('137');
    const { Status, Error: reason } = await state('qq');
    expect(Status).to.equal('exited');
    expect(reason).to.match(/VMM|QEMU/);
  });

  it('a container whose QEMU died while no daemon was there did not succeed either', async () => {
    await host.ok(['run', '-d', '--name', 'both', 'busybox', 'sleep', '1000']);
    const { VmPid } = await state('both');
    process.kill(await host.daemonPid(), 'SIGKILL');
    process.kill(VmPid, 'SIGKILL');
    expect(await host.ok(['wait', 'both'])).to.equal('137');
    expect((await state('both')).Error).not.to.equal('');
  });

  it('a front door that dies before its container runs leaves nothing', async () => {
    const child = host.start(['run', '--name', 'half', 'busybox', 'true'], { stdio: 'ignore' });
    await until(async () => (await readdir(join(host.run, 'vms')).catch(() => [])).length > 0);
    child.kill('SIGKILL');
    await until(async () => (await readdir(join(host.run, 'vms'))).length === 0);
    await until(async () => (await host.ok(['ps', '-aq'])) === '');
    expect((await host.processes()).filter(({ command }) => command.includes('qemu'))).to.deep.equal([]);
  });

  it('a front door that dies later leaves its container running', async () => {
    const child = host.start(['run', '--name', 'on', 'busybox', 'sh', '-c', 'echo up; sleep 1000'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(await state('on')).to.include({ Status: 'running' });
  });

  it('a start that a dead daemon left is undone by the next', async () => {
    const child = host.start(['run', '--name', 'half', 'busybox', 'true'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const result = resultOf(child);
    await until(async () => (await readdir(join(host.run, 'vms')).catch(() => [])).length > 0);
    await killDaemon();
    const { code, stderr } = await result;
    expect(code).to.equal(125);
    expect(stderr).to.match(/connection to hrund/);
    expect(await host.ok(['ps', '-aq'])).to.equal('');
    expect(await readdir(join(host.run, 'vms'))).to.deep.equal([]);
    expect((await host.processes()).filter(({ command }) => command.includes('qemu'))).to.deep.equal([]);
  });

  it('the keeper may die: the daemon goes on, and the next one has a keeper again', async () => {
    const status = await readFile(`/proc/${await host.daemonPid()}/status`, 'utf8');
    process.kill(Number(/^PPid:\s*(\d+)$/m.exec(status)?.[1]), 'SIGKILL');
    expect(await host.ok(['run', '--rm', 'busybox', 'echo', 'still'])).to.equal('still');
  });
});

async function resultOf2(child: ReturnType<HrunHost['start']>): Promise<string> {
  let text = '';
  child.stdout?.setEncoding('utf8').on('data', (data: string) => {
    text += data;
  });
  await once(child, 'close');
  return text;
}
