import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { type HrunHost, hrunPath, newHrunHost, resultOf } from '../helpers/hrunHost.ts';

const execute = promisify(execFile);

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
    // what is in the directory of microVMs belongs to a command then
    await writeFile(join(host.directory, 'config.json'), JSON.stringify({ network: 'none', poolReady: 0 }));
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
    const child = host.start(['run', '--cold', '--name', 'half', 'busybox', 'true'], { stdio: 'ignore' });
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
    const child = host.start(['run', '--cold', '--name', 'half', 'busybox', 'true'], {
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

  it('a start with a volume that a dead daemon left keeps nothing of the caller busy', async () => {
    const shared = join(host.directory, 'shared');
    const child = host.start(['run', '--name', 'half', '-v', `${shared}:/d`, 'busybox', 'true'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const result = resultOf(child);
    const emulator = await until(async () =>
      (await host.processes()).find(({ command }) => /^\S*qemu-system/.test(command)),
    );
    // It boots no further: the start cannot be finished before its daemon dies.
    process.kill(emulator.pid, 'SIGSTOP');
    const serving = (await host.processes()).filter(({ command }) => command.includes('virtiofsd'));
    expect(serving).not.to.deep.equal([]);
    await killDaemon();
    expect((await result).code).to.equal(125);
    expect(await host.ok(['ps', '-aq'])).to.equal('');
    await until(async () => {
      const names = (await host.processes()).map(({ command }) => command).join('\n');
      return !/stand-in|virtiofsd|qemu-system/.test(names);
    });
  });

  it('the keeper may die: the daemon goes on, and the next one has a keeper again', async () => {
    const status = await readFile(`/proc/${await host.daemonPid()}/status`, 'utf8');
    process.kill(Number(/^PPid:\s*(\d+)$/m.exec(status)?.[1]), 'SIGKILL');
    expect(await host.ok(['run', '--rm', 'busybox', 'echo', 'still'])).to.equal('still');
  });
});

describe('a daemon that was first started in other namespaces', () => {
  it('serves callers elsewhere with their own files, and its containers live on', async () => {
    await using host = await newHrunHost();
    await execute('unshare', ['--net', '--mount', '--propagation', 'private', hrunPath, 'version'], {
      env: host.env,
    });
    const mountOf = (pid: number | 'self') => readlink(`/proc/${pid}/ns/mnt`);
    expect(await mountOf(await host.daemonPid())).not.to.equal(await mountOf('self'));
    expect(await host.ok(['run', '--rm', 'busybox', 'echo', 'here'])).to.equal('here');
    // A file system that only this caller has: neither the daemon nor this process sees what is in it.
    const script = [
      'mount -t tmpfs own "$1"',
      'echo mine > "$1/file"',
      'echo VARIABLE=own > "$1/env"',
      '"$0" run --name cc --cidfile "$1/id" --env-file "$1/env" -v "$1:/d" busybox sh -c \'cat /d/file; echo $VARIABLE; echo back > /d/answer\'',
      'cat "$1/answer"',
      '"$0" cp "$1/file" cc:/copied && "$0" cp cc:/copied "$1/returned" && cat "$1/returned"',
      'test "$(cat "$1/id")" = "$("$0" inspect -f {{.Id}} cc)" && echo same',
    ].join(' && ');
    const place = join(host.directory, 'place');
    await mkdir(place);
    const options = ['--mount', '--propagation', 'private', 'sh', '-c', script, hrunPath, place];
    const { stdout } = await execute('unshare', options, { env: host.env });
    expect(stdout.split('\n')).to.deep.equal(['mine', 'own', 'back', 'mine', 'same', '']);
    expect(await readdir(place)).to.deep.equal([]);
    await host.ok(['rm', 'cc']);
  });
});

describe('the exit code of a command whose stdin nobody read', () => {
  const rounds = 500;
  const atOnce = 4;

  it(`is the workload’s, ${rounds} times`, async () => {
    await using host = await newHrunHost();
    await host.ok(['run', '-d', '--name', 'cc', 'busybox', 'sleep', '10000']);
    const input = Buffer.alloc(200_000, 'unread ');
    const wrong: string[] = [];
    let next = 0;
    const worker = async () => {
      for (let round = next++; round < rounds; round = next++) {
        const wanted = round % 126;
        const { code, stderr } = await host.hrun(['exec', '-i', 'cc', 'sh', '-c', `exit ${wanted}`], {
          input,
        });
        if (code !== wanted) wrong.push(`${code} instead of ${wanted}: ${stderr}`);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
    expect(wrong).to.deep.equal([]);
    await host.ok(['rm', '-f', 'cc']);
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
