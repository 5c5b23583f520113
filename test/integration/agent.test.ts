import { expect } from 'chai';
import { failureReasonOf } from '../../src/agent/failure.ts';
import {
  type AgentGuest,
  command,
  containerRequest,
  kernelMount,
  openAgentGuest,
  personalization,
  refusal,
  shell,
  soon,
  usualMounts,
} from '../helpers/agentGuest.ts';

describe('the agent', () => {
  let guest: AgentGuest;
  const create = (process: ReturnType<typeof command>, change = {}) =>
    guest.client.createContainer(containerRequest('refused', process, change), soon());

  before(async () => {
    guest = await openAgentGuest();
  });
  after(() => guest[Symbol.asyncDispose]());
  afterEach('leaves no container behind', async () => {
    expect(await guest.client.listContainers(soon())).to.deep.equal([]);
  });

  it('makes no container before the guest is personalized', async () => {
    expect(await refusal(create(command(['true'])))).to.have.property('reason', 'NOT_PERSONALIZED');
    const { realtimeNs } = await guest.client.personalize(personalization(), soon());
    expect(Number(realtimeNs / 1_000_000n)).to.be.closeTo(Date.now(), 5000);
  });

  it('refuses in create what a user can get wrong, in the words of Docker', async () => {
    const cases = [
      [command(['nope']), 'COMMAND_NOT_FOUND', 'exec: "nope": executable file not found in $PATH'],
      [command(['/nope']), 'COMMAND_NOT_FOUND', 'exec: "/nope": stat /nope: no such file or directory'],
      [command(['/bin/plain']), 'COMMAND_NOT_EXECUTABLE', 'exec: "/bin/plain": permission denied'],
      [command(['/etc']), 'COMMAND_NOT_EXECUTABLE', 'exec: "/etc": is a directory'],
      [command(['true'], { user: 'nobody' }), 'UNKNOWN_USER', 'unable to find user nobody'],
      [command(['true'], { cwd: '/nope' }), 'BAD_WORKING_DIRECTORY', '/nope'],
      [command(['true'], { cwd: '/etc/passwd', createCwd: true }), 'BAD_WORKING_DIRECTORY', '/etc/passwd'],
    ] as const;
    for (const [process, reason, message] of cases) {
      const refused = await refusal(create(process));
      expect(refused.reason).to.equal(reason);
      expect(refused.message).to.contain(message);
    }
  });

  it('tells at start what only the execve finds out', async () => {
    for (const [name, reason] of [
      ['orphan', 'COMMAND_NOT_FOUND'],
      ['garbage', 'COMMAND_NOT_EXECUTABLE'],
    ] as const) {
      await guest.client.createContainer(containerRequest('c', command([name])), soon());
      expect(await refusal(guest.client.startContainer('c', soon()))).to.have.property('reason', reason);
      await guest.client.deleteContainer('c', soon());
    }
  });

  it('runs as the user of the image, with its groups, home and no capability', async () => {
    const script = 'id; echo $HOME; grep CapEff /proc/self/status; touch /x; echo told > /dev/stderr';
    const { stdout, stderr } = await guest.run(shell(script, { user: 'web' }));
    expect(stdout).to.contain(
      'uid=33(web) gid=33(web) groups=10(wheel),33(web)\n/srv\nCapEff:\t0000000000000000',
    );
    expect(stderr).to.contain('/x: Permission denied').and.to.contain('told');
  });

  it('hands a process three descriptors and the signals as they are by default', async () => {
    // the fourth, which has no target any more, is the directory that ls reads
    const { stdout } = await guest.run(command(['ls', '-l', '/proc/self/fd']));
    expect(stdout.match(/^l\S+ .* \d+ -> .*$/gm)).to.have.lengthOf(3);
    const { stdout: status } = await guest.run(command(['grep', 'Sig', '/proc/self/status']));
    expect(status).to.contain('SigBlk:\t0000000000000000').and.to.contain('SigIgn:\t0000000000000000');
  });

  it('gives a terminal its size, and its end to the output', async () => {
    const terminal = { terminal: true, stdinOpen: true, terminalSize: { rows: 33, columns: 77 } };
    const { stdout, exit } = await guest.run(
      shell('tty; stty size; echo $TERM > /dev/tty; read x; seq 1 20000; exit 3', terminal),
      {},
      'line\n',
    );
    expect(stdout)
      .to.contain('/dev/pts/0\r\n33 77\r\nxterm\r\n')
      .and.to.match(/\r\n19999\r\n20000\r\n$/);
    expect(exit.code).to.equal(3);
  });

  it('carries every byte of a flood on both outputs', async () => {
    const { stdout, stderr } = await guest.run(shell('seq 1 60000 >&2 & seq 1 60000; wait'));
    expect(stdout).to.equal(stderr);
    expect(stdout.split('\n')).to.have.lengthOf(60_001);
  });

  it('keeps 256 KiB for a host that went away, and stops the writer there', async () => {
    await using container = await guest.start(command(['seq', '1', '10000000']));
    const open = { containerId: container.id, processId: 'init', stdoutOffset: 0n, stderrOffset: 0n };
    const first = await readUpTo(await guest.client.attach(open, soon()), 262_144);
    const second = await readUpTo(
      await guest.client.attach({ ...open, stdoutOffset: 100_000n }, soon()),
      162_144,
    );
    expect(second.slice(0, 162_144)).to.equal(first.slice(100_000));
  });

  it('lets the newest attachment win', async () => {
    await using container = await guest.start(shell('read line; echo got $line', { stdinOpen: true }));
    const open = { containerId: container.id, processId: 'init', stdoutOffset: 0n, stderrOffset: 0n };
    using old = await guest.client.attach(open, soon());
    const ended = (async () => {
      for await (const _ of old.outputs);
    })();
    const [failure, { stdout }] = await Promise.all([
      refusal(ended),
      guest.follow(container.id, 'init', 'this\n'),
    ]);
    expect(failure.message).to.contain('another attachment took over');
    expect(stdout).to.equal('got this\n');
  });

  it('starts, lists, signals and forgets further processes', async () => {
    await using container = await guest.start(command(['sleep', '1000']));
    const exec = (processId: string, process: ReturnType<typeof command>) =>
      guest.client.exec({ containerId: container.id, processId, process }, soon());
    await exec('e1', shell('(sleep 1000 &); echo $$; exit 5'));
    const { stdout, exit } = await guest.follow(container.id, 'e1');
    expect([Number(stdout) > 1, exit.code]).to.deep.equal([true, 5]);
    expect((await refusal(exec('e1', command(['true'])))).reason).to.equal('ALREADY_EXISTS');
    await guest.client.releaseProcess({ containerId: container.id, processId: 'e1' }, soon());
    expect((await refusal(guest.follow(container.id, 'e1'))).reason).to.equal('NO_SUCH_PROCESS');

    const listed = await guest.client.listProcesses(container.id, soon());
    expect(listed.map(({ ppid, user, args }) => [ppid, user, args.join(' ')])).to.have.deep.members([
      [0, 'root', 'sleep 1000'],
      [1, 'root', 'sleep 1000'],
    ]);
    await exec('e2', command(['sleep', '1000']));
    await guest.client.signal({ containerId: container.id, processId: 'init', signal: 9 }, soon());
    expect((await guest.follow(container.id)).exit).to.include({ code: 137, signal: 9 });
    expect((await guest.follow(container.id, 'e2')).exit.code).to.equal(137);
    expect((await refusal(exec('e3', command(['true'])))).reason).to.equal('WRONG_STATE');
  });

  it('keeps limits, and tells when memory ran out', async () => {
    const files =
      'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max; tail /dev/zero';
    const resources = {
      memoryMaxBytes: 16_777_216n,
      pidsMax: 20n,
      cpuQuotaUs: 50_000n,
      cpuPeriodUs: 100_000n,
    };
    const { stdout, exit } = await guest.run(shell(files), { resources });
    expect(stdout).to.equal('16777216\n20\n50000 100000\n');
    expect(exit.oomKilled).to.equal(true);
  });

  it('keeps what is written, and volumes that start as the image has them', async () => {
    const volume = {
      destination: '/data',
      options: [],
      source: { case: 'volume' as const, value: { name: 'v0' } },
    };
    const mounts = [...usualMounts, volume];
    await guest.run(shell('echo more > /data/more; echo root > /kept'), { mounts });
    expect((await guest.run(shell('cat /data/file /data/more /kept'), { mounts })).stdout).to.equal(
      'from the image\nmore\nroot\n',
    );
    expect((await guest.run(shell('ls /data'))).stdout).to.equal('file\n');
  });

  it('opens no device of the guest to a container, whatever nodes it makes', async () => {
    const nodes = { disk: 'b 254 0', port: 'c 245 1', memory: 'c 1 1', console: 'c 5 1' };
    const scripts = Object.entries(nodes).map(([name, node]) => `mknod /${name} ${node}; head -c 1 /${name}`);
    const { stdout, stderr } = await guest.run(shell(scripts.join('; ')));
    expect(stdout).to.equal('');
    expect(stderr.match(/Operation not permitted/g)).to.have.lengthOf(Object.keys(nodes).length);
  });

  it('follows links of the image inside its root only, and mounts nothing into proc', async () => {
    await guest.run(shell('cd /; busybox ln -s ../../../../run/out up; busybox ln -s /proc/sys link'));
    const mounts = [...usualMounts, kernelMount('/up', 'tmpfs', ['size=1m'])];
    expect((await guest.run(shell('grep " /run/out " /proc/mounts | wc -l'), { mounts })).stdout).to.equal(
      '1\n',
    );
    const volume = {
      destination: '/link',
      options: [],
      source: { case: 'volume' as const, value: { name: 'v1' } },
    };
    const refused = await refusal(create(command(['true']), { mounts: [...usualMounts, volume] }));
    expect(refused).to.deep.equal({
      reason: 'MOUNT_FAILED',
      message: 'cannot mount on /link: it is inside /proc',
    });
  });

  it('takes no working directory that lies outside', async () => {
    for (let fd = 3; fd < 12; fd += 1) {
      // either there is no such directory, or it is one of the container's own
      const ran = guest.run(command(['pwd'], { cwd: `/proc/self/fd/${fd}` }));
      const end = await ran.then(({ stdout }) => stdout, failureReasonOf);
      expect(end).to.be.oneOf(['/\n', 'BAD_WORKING_DIRECTORY']);
    }
  });

  it('sees what is mounted in a container when it looks at its paths', async () => {
    await using container = await guest.start(shell('touch /dev/shm/here; echo ready; sleep 1000'));
    const stat = (path: string) =>
      guest.client.statPath({ containerId: container.id, path, followLink: false }, soon());
    expect((await refusal(stat('/nope'))).reason).to.equal('NO_SUCH_PATH');
    const open = { containerId: container.id, processId: 'init', stdoutOffset: 0n, stderrOffset: 0n };
    expect(await readUpTo(await guest.client.attach(open, soon()), 6)).to.equal('ready\n');
    expect(await stat('/dev/shm/here')).to.include({ name: 'here', size: 0n });
    expect(await stat('/etc/passwd')).to.include({ name: 'passwd', mode: 0o100644 });
  });
});

async function readUpTo(
  attachment: Awaited<ReturnType<AgentGuest['client']['attach']>>,
  length: number,
): Promise<string> {
  using _ = attachment;
  let read = '';
  for await (const output of attachment.outputs) {
    if (output.case === 'stdout') read += Buffer.from(output.value.data).toString();
    if (read.length >= length) break;
  }
  return read;
}
