import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { type HrunHost, newHrunHost } from '../helpers/hrunHost.ts';

describe('hrun run', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost();
    await host.ok(['run', '--rm', 'busybox', 'true']);
  });
  after(() => host[Symbol.asyncDispose]());

  const run = (...args: string[]) => host.hrun(['run', '--rm', ...args]);
  const sh = (script: string, ...flags: string[]) => run(...flags, 'busybox', 'sh', '-c', script);

  async function out(script: string, ...flags: string[]): Promise<string> {
    const { code, stdout, stderr } = await sh(script, ...flags);
    if (code !== 0) throw new Error(`exit ${code}: ${stderr}`);
    return stdout.trimEnd();
  }

  it('prints what the container prints, and leaves nothing behind', async () => {
    const { code, stdout, stderr } = await run('busybox', 'echo', 'hello');
    expect({ code, stdout, stderr }).to.deep.equal({ code: 0, stdout: 'hello\n', stderr: '' });
    expect(await host.ok(['ps', '-aq'])).to.equal('');
  });

  it('runs its own kernel, not the host’s', async () => {
    const { stdout } = await host.hrun(['version', '--format', 'json']);
    expect(await out('uname -r'))
      .to.be.a('string')
      .and.not.equal('');
    expect(stdout).to.contain(await out('uname -r'));
  });

  it('keeps stdout and stderr apart', async () => {
    const { stdout, stderr } = await sh('echo out; echo err >&2');
    expect({ stdout, stderr }).to.deep.equal({ stdout: 'out\n', stderr: 'err\n' });
  });

  for (const code of [0, 1, 42, 125, 255]) {
    it(`exits with the workload's ${code}`, async () => {
      expect((await sh(`exit ${code}`)).code).to.equal(code);
    });
  }

  it('exits with 128 + the signal that killed the workload', async () => {
    expect((await run('busybox', 'sh', '-c', 'sh -c "kill -9 \\$\\$"; exit $?')).code).to.equal(137);
  });

  it('exits with 127 for a command that is not there, and 126 for one that cannot run', async () => {
    const missing = await run('busybox', 'nosuchcommand');
    expect(missing.code).to.equal(127);
    expect(missing.stderr).to.contain('nosuchcommand').and.contain('not found');
    const notExecutable = await run('busybox', '/etc/passwd');
    expect(notExecutable.code).to.equal(126);
    expect(notExecutable.stderr).to.contain('permission denied');
    expect((await run('busybox', '/no/such/path')).code).to.equal(127);
    expect((await run('busybox', '/bin')).code).to.equal(126);
  });

  it('passes stdin on with -i, to its end', async () => {
    const input = 'x'.repeat(300_000);
    const { stdout } = await host.hrun(['run', '--rm', '-i', 'busybox', 'wc', '-c'], { input });
    expect(stdout.trim()).to.equal('300000');
  });

  it('gives no stdin without -i', async () => {
    const { stdout } = await host.hrun(['run', '--rm', 'busybox', 'cat'], { input: 'secret' });
    expect(stdout).to.equal('');
  });

  it('carries 100 MB through stdout, whole', async () => {
    const { stdout } = await host.hrun([
      'run',
      '--rm',
      'busybox',
      'sh',
      '-c',
      'head -c 100000000 /dev/zero | tr "\\0" x',
    ]);
    expect(stdout.length).to.equal(100_000_000);
    expect(/^x+$/.test(stdout)).to.equal(true);
  });

  it('sets variables, from the command line, the caller and a file', async () => {
    const file = join(host.directory, 'variables');
    await writeFile(file, '# comment\nFILE_A=a b\nFROM_CALLER\n\n');
    const { stdout } = await host.hrun(
      ['run', '--rm', '-e', 'A=1', '-e', 'FROM_CALLER', '--env-file', file, 'busybox', 'env'],
      { env: { FROM_CALLER: 'caller' } },
    );
    expect(stdout.split('\n')).to.include.members(['A=1', 'FROM_CALLER=caller', 'FILE_A=a b', 'HOME=/root']);
  });

  it('honours user, group, working directory and host name', async () => {
    expect(
      await out('id -u; id -g; pwd; hostname', '-u', 'nobody', '-w', '/new/dir', '--hostname', 'box'),
    ).to.equal('65534\n65534\n/new/dir\nbox');
    expect(await out('id', '-u', '123:456')).to.equal('uid=123 gid=456 groups=456');
    expect(await out('hostname; cat /etc/hostname', '--hostname', 'a.b.c')).to.equal('a.b.c\na.b.c');
    const unknown = await run('-u', 'nosuchuser', 'busybox', 'true');
    expect(unknown.code).to.equal(125);
    expect(unknown.stderr).to.contain('nosuchuser');
  });

  it('replaces the entrypoint', async () => {
    const { stdout } = await run('--entrypoint', 'echo', 'busybox', 'a', 'b');
    expect(stdout).to.equal('a b\n');
  });

  it('makes the root read-only, but for tmpfs', async () => {
    expect(
      await out('touch /x 2>/dev/null || echo ro; touch /t/x && echo rw', '--read-only', '--tmpfs', '/t'),
    ).to.equal('ro\nrw');
    expect(await out('df -m /t | tail -1 | tr -s " " | cut -d" " -f2', '--tmpfs', '/t:size=3m')).to.equal(
      '3',
    );
  });

  it('limits memory and CPUs', async () => {
    const kilobytes = Number(
      await out("sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo", '--memory', '128m'),
    );
    expect(kilobytes).to.be.within(128 * 1024, 260 * 1024);
    expect(await out('cat /sys/fs/cgroup/memory.max', '--memory', '128m')).to.equal(
      String(128 * 1024 * 1024),
    );
    expect(await out('nproc', '--cpus', '2')).to.equal('2');
  });

  it('gives the default capabilities, less and more', async () => {
    const effective = async (...flags: string[]) =>
      BigInt(`0x${await out("sed -n 's/CapEff:\\t//p' /proc/self/status", ...flags)}`);
    const sysTime = 1n << 25n;
    const chown = 1n;
    expect((await effective()) & sysTime).to.equal(0n);
    expect((await effective()) & chown).to.equal(chown);
    expect((await effective('--cap-add', 'SYS_TIME')) & sysTime).to.equal(sysTime);
    expect(await effective('--cap-drop', 'ALL')).to.equal(0n);
  });

  it('has a private pid namespace, own devices and masked paths', async () => {
    expect(await out('echo $$; ls /dev | sort | tr "\\n" " "')).to.match(
      /^1\n.*\bfd full .*null .*ptmx pts random shm stderr stdin stdout tty urandom zero/s,
    );
    expect(await out('ls /dev/vd* /dev/sd* /dev/vport* /dev/hvc* /dev/ttyS0 2>/dev/null | wc -l')).to.equal(
      '0',
    );
    expect(await out('wc -c < /proc/interrupts')).to.equal('0');
    expect((await sh('echo 1 > /proc/sys/kernel/panic')).code).not.to.equal(0);
  });

  it('has loopback only', async () => {
    // the guest's network device is there, without a cable, an address or a route
    const found = 'cat /sys/class/net/eth0/flags; ip -o addr | grep -v " lo "; ip route; true';
    expect(await out(found)).to.equal('0x1002');
    expect(await out(found, '--network', 'none')).to.equal('0x1002');
    expect(await out('ping -c1 -W2 127.0.0.1 >/dev/null && echo up')).to.equal('up');
  });

  it('reports its phases', async () => {
    const { stderr } = await run('--cold', '--timing', 'busybox', 'true');
    for (const phase of ['cold', 'disks', 'spawn', 'boot', 'agent', 'rootfs', 'start'])
      expect(stderr).to.contain(phase);
  });

  it('forwards SIGTERM and exits with the workload’s answer', async () => {
    const child = host.start(
      [
        'run',
        '--rm',
        'busybox',
        'sh',
        '-c',
        'trap "echo got; exit 9" TERM; echo ready; while :; do sleep 0.1; done',
      ],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    let text = '';
    child.stdout?.on('data', (data) => {
      if (text === '') child.kill('SIGTERM');
      text += data;
    });
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect({ text, code }).to.deep.equal({ text: 'ready\ngot\n', code: 9 });
  });

  for (const [kind, command] of Object.entries({
    'a workload that notices': ['sh', '-c', 'while echo y; do :; done 2>/dev/null'],
    'an init that is immune to SIGPIPE and does not look': ['yes'],
  })) {
    it(`ends ${kind} when its reader closes stdout`, async () => {
      const child = host.start(['run', '--rm', 'busybox', ...command], {
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      child.stdout?.once('data', () => child.stdout?.destroy());
      await new Promise((resolve) => child.on('exit', resolve));
      expect(await host.ok(['ps', '-aq'])).to.equal('');
    });
  }

  it('refuses nonsense before anything boots', async () => {
    const cases: [string[], RegExp][] = [
      [['--nope', 'busybox'], /nope/],
      [['--memory', '4m', 'busybox', 'true'], /memory/],
      [['--memory', 'lots', 'busybox', 'true'], /lots/],
      [['--cpus', '-1', 'busybox', 'true'], /cpus/i],
      [['-v', 'a:b:c:d', 'busybox', 'true'], /a:b:c:d/],
      [['--name', '-bad', 'busybox', 'true'], /bad/],
      [['--network', 'nosuch', 'busybox', 'true'], /nosuch/],
      [['--cap-add', 'NOSUCH', 'busybox', 'true'], /NOSUCH/],
      [['--kernel', '/no/such/kernel', 'busybox', 'true'], /\/no\/such\/kernel: .*no such file/],
      [['--kernel', '/usr', 'busybox', 'true'], /\/usr: it is a directory/],
      [['--kernel', '/etc/passwd', 'busybox', 'true'], /\/etc\/passwd is no uncompressed/],
      [['--storage-size', '10k', 'busybox', 'true'], /10240 bytes are too little/],
      [['UPPER CASE', 'true'], /UPPER CASE/],
      [['--accel', 'warp', 'busybox', 'true'], /warp/],
    ];
    for (const [args, message] of cases) {
      const { code, stderr } = await run(...args);
      expect(code, args.join(' ')).to.equal(125);
      expect(stderr, args.join(' ')).to.match(message);
      expect(stderr.split('\n').length, stderr).to.be.lessThan(6);
    }
    expect(await host.ok(['ps', '-aq'])).to.equal('');
  });

  it('says that a name is taken', async () => {
    await host.ok(['run', '-d', '--name', 'holder', 'busybox', 'sleep', '100']);
    const second = await host.hrun(['run', '--name', 'holder', 'busybox', 'true']);
    expect(second.code).to.equal(125);
    expect(second.stderr).to.contain('already in use');
    await host.ok(['rm', '-f', 'holder']);
  });
});
