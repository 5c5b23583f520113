import { once } from 'node:events';
import { expect } from 'chai';
import { type HrunHost, newHrunHost, resultOf } from '../helpers/hrunHost.ts';

describe('the life of a container', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost();
    await host.ok([
      'run',
      '-d',
      '--name',
      'main',
      '-e',
      'SET=here',
      '--label',
      'role=test',
      'busybox',
      'sh',
      '-c',
      'echo one; echo two >&2; sleep 1000',
    ]);
    // it has only been started: what it says comes when it comes
    for (let said = ''; !said.includes('two'); ) said = (await host.hrun(['logs', 'main'])).stderr;
  });
  after(() => host[Symbol.asyncDispose]());

  const inspect = (format: string, container = 'main') => host.ok(['inspect', '--format', format, container]);

  it('is listed with what Docker shows', async () => {
    const id = await inspect('{{.Id}}');
    expect(id).to.match(/^[0-9a-f]{64}$/);
    const [header, row] = (await host.ok(['ps'])).split('\n');
    expect(header).to.match(/^CONTAINER ID\s+IMAGE\s+COMMAND\s+CREATED\s+STATUS\s+PORTS\s+NAMES$/);
    expect(row).to.contain(id.slice(0, 12)).and.contain('busybox').and.contain('main').and.match(/Up /);
    expect(await host.ok(['ps', '-q', '--filter', 'label=role=test'])).to.equal(id.slice(0, 12));
    expect(await host.ok(['ps', '-q', '--filter', 'name=nobody'])).to.equal('');
  });

  it('is inspected in Docker’s shape', async () => {
    const [details] = JSON.parse(await host.ok(['inspect', 'main']));
    expect(details).to.nested.include({
      Name: '/main',
      'State.Status': 'running',
      'State.Running': true,
      'State.Pid': 0,
      'Config.Image': 'busybox',
      'Config.Labels.role': 'test',
      Path: 'sh',
    });
    expect(details.State.VmPid).to.be.greaterThan(1);
    expect(details.Config.Env).to.include('SET=here');
    expect(await inspect('{{.State.Running}} {{len .Args}} {{index .Args 0}}')).to.equal('true 2 -c');
  });

  it('is found by the beginning of its id', async () => {
    const id = await inspect('{{.Id}}');
    expect(await inspect('{{.Name}}', id.slice(0, 10))).to.equal('/main');
    const unknown = await host.hrun(['inspect', 'nobody']);
    expect(unknown.code).to.equal(1);
    expect(unknown.stderr).to.contain('nobody');
  });

  it('shows its log: all, the end, with times, one stream each', async () => {
    const { stdout, stderr } = await host.hrun(['logs', 'main']);
    expect({ stdout, stderr }).to.deep.equal({ stdout: 'one\n', stderr: 'two\n' });
    expect(await host.ok(['logs', '-t', 'main'])).to.match(/^\d{4}-\d\d-\d\dT[\d:.]+Z one$/);
    const tail = await host.hrun(['logs', '--tail', '0', 'main']);
    expect(tail.stdout + tail.stderr).to.equal('');
  });

  it('runs more commands inside, with their own code, user, directory and input', async () => {
    expect((await host.hrun(['exec', 'main', 'sh', '-c', 'exit 3'])).code).to.equal(3);
    expect(
      await host.ok([
        'exec',
        '-e',
        'X=1',
        '-w',
        '/tmp',
        '-u',
        'nobody',
        'main',
        'sh',
        '-c',
        'echo $SET$X; pwd; id -u',
      ]),
    ).to.equal('here1\n/tmp\n65534');
    expect(await host.ok(['exec', '-i', 'main', 'cat'], { input: 'through' })).to.equal('through');
    expect((await host.hrun(['exec', 'main', 'nosuch'])).code).to.equal(127);
    expect((await host.hrun(['exec', 'nobody', 'true'])).code).to.equal(1);
    expect((await host.hrun(['exec', '-u', 'nosuch', 'main', 'true'])).code).to.equal(126);
    expect((await host.hrun(['exec', '-w', '/nosuch', 'main', 'true'])).code).to.equal(126);
    await host.ok(['exec', '-d', 'main', 'touch', '/tmp/detached']);
    expect(
      await host.ok(['exec', 'main', 'sh', '-c', 'until test -e /tmp/detached; do :; done; echo there']),
    ).to.equal('there');
  });

  it('shows its processes', async () => {
    const top = await host.ok(['top', 'main']);
    expect(top.split('\n')[0]).to.match(/^UID\s+PID\s+PPID\s+C\s+STIME\s+TTY\s+TIME\s+CMD$/);
    expect(top).to.contain('sleep 1000');
  });

  it('is attached to by a second command', async () => {
    await host.ok(['run', '-d', '-i', '--name', 'echoer', 'busybox', 'cat']);
    const child = host.start(['attach', 'echoer'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const result = resultOf(child, 'to the attached\n');
    expect((await result).stdout).to.equal('to the attached\n');
    expect(await host.ok(['wait', 'echoer'])).to.equal('0');
    await host.ok(['rm', 'echoer']);
  });

  it('is followed in its log to its end', async () => {
    await host.ok([
      'run',
      '-d',
      '--name',
      'talker',
      'busybox',
      'sh',
      '-c',
      'for i in 1 2 3; do echo $i; sleep 0.3; done',
    ]);
    expect(await host.ok(['logs', '-f', 'talker'])).to.equal('1\n2\n3');
    await host.ok(['rm', '-f', 'talker']);
  });

  it('is stopped by its signal, or killed after the time-out', async () => {
    await host.ok([
      'run',
      '-d',
      '--name',
      'polite',
      '--stop-signal',
      'USR1',
      'busybox',
      'sh',
      '-c',
      'trap "exit 8" USR1; touch /ready; while :; do sleep 0.1; done',
    ]);
    await host.ok(['exec', 'polite', 'sh', '-c', 'until test -e /ready; do :; done']);
    expect(await host.ok(['stop', 'polite'])).to.equal('polite');
    expect(await inspect('{{.State.Status}} {{.State.ExitCode}}', 'polite')).to.equal('exited 8');
    await host.ok(['run', '-d', '--name', 'deaf', 'busybox', 'sleep', '1000']);
    await host.ok(['stop', '-t', '1', 'deaf']);
    expect(await inspect('{{.State.ExitCode}}', 'deaf')).to.equal('137');
    expect((await host.hrun(['kill', 'deaf'])).code).to.equal(1);
    await host.ok(['rm', 'polite', 'deaf']);
  });

  it('is killed with any signal', async () => {
    await host.ok([
      'run',
      '-d',
      '--name',
      'kk',
      'busybox',
      'sh',
      '-c',
      'trap "exit 2" HUP; touch /ready; while :; do sleep 0.1; done',
    ]);
    await host.ok(['exec', 'kk', 'sh', '-c', 'until test -e /ready; do :; done']);
    await host.ok(['kill', '-s', 'HUP', 'kk']);
    expect(await host.ok(['wait', 'kk'])).to.equal('2');
    await host.ok(['rm', 'kk']);
  });

  it('keeps its files, and its log, over a restart', async () => {
    const script =
      'cat /kept 2>/dev/null; echo run; echo data > /kept; touch /tmp/$(cat /proc/sys/kernel/random/boot_id)';
    await host.ok(['run', '-d', '--name', 'again', 'busybox', 'sh', '-c', `${script}; sleep 1000`]);
    const hasRun = 'until test -e /tmp/$(cat /proc/sys/kernel/random/boot_id); do :; done';
    await host.ok(['exec', 'again', 'sh', '-c', hasRun]);
    await host.ok(['restart', '-t', '0', 'again']);
    await host.ok(['exec', 'again', 'sh', '-c', hasRun]);
    await host.ok(['stop', '-t', '0', 'again']);
    await host.ok(['start', 'again']);
    await host.ok(['exec', 'again', 'sh', '-c', hasRun]);
    await host.ok(['kill', 'again']);
    await host.ok(['wait', 'again']);
    expect(await host.ok(['logs', 'again'])).to.equal('run\ndata\nrun\ndata\nrun');
    await host.ok(['rm', 'again']);
  });

  it('is renamed', async () => {
    await host.ok(['rename', 'main', 'other']);
    expect(await inspect('{{.Name}}', 'other')).to.equal('/other');
    await host.ok(['rename', 'other', 'main']);
  });

  it('is not removed while it runs, unless forced', async () => {
    const refused = await host.hrun(['rm', 'main']);
    expect(refused.code).to.equal(1);
    expect(refused.stderr).to.contain('running');
    await host.ok(['run', '-d', '--name', 'doomed', 'busybox', 'sleep', '1000']);
    expect(await host.ok(['rm', '-f', 'doomed'])).to.equal('doomed');
    expect((await host.hrun(['inspect', 'doomed'])).code).to.equal(1);
  });

  it('is created first and started later, attached', async () => {
    const id = await host.ok(['create', '--name', 'later', 'busybox', 'sh', '-c', 'echo now; exit 5']);
    expect(id).to.match(/^[0-9a-f]{64}$/);
    expect(await inspect('{{.State.Status}}', 'later')).to.equal('created');
    const started = await host.hrun(['start', '-a', 'later']);
    expect(started).to.include({ code: 5, stdout: 'now\n' });
    await host.ok(['rm', 'later']);
  });

  it('is waited for by several', async () => {
    await host.ok(['run', '-d', '--name', 'ww', 'busybox', 'sh', '-c', 'sleep 1; exit 7']);
    const waiting = [host.start(['wait', 'ww']), host.start(['wait', 'ww'])];
    await Promise.all(waiting.map((child) => once(child, 'exit')));
    expect(await host.ok(['wait', 'ww'])).to.equal('7');
    await host.ok(['rm', 'ww']);
  });
});
