import { spawn } from 'node:child_process';
import { expect } from 'chai';
import { type HrunHost, hrunPath, newHrunHost, resultOf } from '../helpers/hrunHost.ts';

describe('hrun events', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost();
    await host.ok(['run', '--rm', 'busybox', 'true']);
  });
  after(() => host[Symbol.asyncDispose]());

  const past = async (...args: string[]) =>
    (await host.ok(['events', '--since', '1h', '--until', '0s', ...args])).split('\n');

  const actionsOf = (name: string) => past('--filter', `container=${name}`, '--format', '{{.Action}}');

  it('tells the life of a container, in order, as Docker names it', async () => {
    await host.ok(['run', '-d', '--name', 'life', '--label', 'role=test', 'busybox', 'sleep', '1000']);
    await host.ok(['exec', 'life', 'true']);
    await host.ok(['rename', 'life', 'lived']);
    await host.ok(['stop', '-t', '0', 'lived']);
    await host.ok(['rm', 'lived']);
    const id = (await past('--filter', 'container=life', '--format', '{{.Actor.ID}}'))[0] ?? '';
    expect(await past('--filter', `container=${id}`, '--format', '{{.Action}}')).to.deep.equal([
      'create',
      'start',
      'launch',
      'exec_create: true',
      'exec_start: true',
      'exec_die',
      'rename',
      'kill',
      'die',
      'stop',
      'destroy',
    ]);
    const [die = ''] = await past('--filter', `container=${id}`, '--filter', 'event=die');
    expect(die).to.match(
      /^\S+ container die [0-9a-f]{64} \(exitCode=137, image=busybox, name=lived, role=test\)$/,
    );
  });

  it('carries the phases of each launch', async () => {
    await host.ok(['run', '--rm', '--name', 'timed', 'busybox', 'true']);
    const [launch = ''] = await past(
      '--filter',
      'container=timed',
      '--filter',
      'event=launch',
      '--format',
      'json',
    );
    const attributes: Record<string, string> = JSON.parse(launch).Actor.Attributes;
    for (const phase of ['disks', 'agent', 'rootfs', 'start']) {
      expect(Number(attributes[`phase.${phase}`]), phase).to.be.at.least(0);
    }
    expect(attributes.launch).to.be.oneOf(['cold', 'cloned', 'pooled']);
    expect(await actionsOf('timed')).to.deep.equal(['create', 'attach', 'start', 'launch', 'die', 'destroy']);
  });

  it('tells of images', async () => {
    await host.ok(['tag', 'busybox', 'other:1']);
    await host.ok(['rmi', 'other:1']);
    const lines = await past('--filter', 'type=image', '--format', '{{.Action}} {{.Actor.Attributes.name}}');
    expect(lines.at(-2)).to.equal('tag other:1');
    expect(lines.at(-1)).to.match(/^untag sha256:/);
  });

  it('follows, and ends with its reader', async () => {
    const script = '"$0" events --format "{{.Action}}" --filter type=container | sed /destroy/q';
    const child = spawn('sh', ['-c', script, hrunPath], {
      env: host.env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const followed = resultOf(child);
    // Whether it listens already cannot be seen from here: containers come and go until it has seen the end of one.
    while (child.exitCode === null) await host.ok(['run', '--rm', 'busybox', 'true']);
    const { code, stdout } = await followed;
    expect(code).to.equal(0);
    expect(stdout).to.match(/die\ndestroy\n$/);
  });

  it('knows the end of what died with no daemon there', async () => {
    await host.ok(['run', '-d', '--name', 'orphan', 'busybox', 'sleep', '1000']);
    const vmPid = Number(await host.ok(['inspect', '--format', '{{.State.VmPid}}', 'orphan']));
    process.kill(await host.daemonPid(), 'SIGKILL');
    process.kill(vmPid, 'SIGKILL');
    expect(await host.ok(['wait', 'orphan'])).to.equal('137');
    expect(await actionsOf('orphan')).to.deep.equal(['create', 'start', 'launch', 'die']);
    await host.ok(['rm', 'orphan']);
  });
});
