import { expect } from 'chai';
import { type HrunHost, newHrunHost } from '../helpers/hrunHost.ts';

/** Names, states and parents of all processes of a container. */
const processList =
  'for stat in /proc/[0-9]*/stat; do read -r pid name state parent rest < $stat && echo $name $state $parent; done';

describe('hrun run --init', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost();
    await host.ok(['run', '-d', '--init', '--name', 'with', 'busybox', 'sleep', '100000']);
    await host.ok(['run', '-d', '--name', 'without', 'busybox', 'sleep', '100000']);
  });
  after(() => host[Symbol.asyncDispose]());

  const run = (...args: string[]) => host.hrun(['run', '--rm', '--init', ...args]);

  it('puts an init before the command, which has the command’s arguments and user', async () => {
    const shown = await run(
      '-u',
      'nobody',
      'busybox',
      'sh',
      '-c',
      'tr "\\0" " " < /proc/1/cmdline; id -un; exit 6',
    );
    expect(shown).to.include({ code: 6, stderr: '' });
    expect(shown.stdout).to.match(/^\/sbin\/docker-init -- sh -c tr .*exit 6 nobody\n$/);
    expect(await host.ok(['inspect', '--format', '{{.HostConfig.Init}}', 'with', 'without'])).to.equal(
      'true\nfalse',
    );
    expect(await host.ok(['top', 'with', '-o', 'pid,ppid,args'])).to.match(
      /1 +0 +\/sbin\/docker-init -- sleep 100000/,
    );
  });

  it('reaps what is left to it, as a command that is pid 1 does not', async () => {
    for (const [container, left] of [
      ['with', false],
      ['without', true],
    ] as const) {
      // Its parent is gone at once: pid 1 inherits it.
      await host.ok(['exec', container, 'sh', '-c', '(touch /tmp/begun & )']);
      const script = `until test -e /tmp/begun; do :; done; while ${processList} | grep -q '(touch) [^Z]'; do :; done; ${processList}`;
      const isZombie = async () =>
        (await host.ok(['exec', container, 'sh', '-c', script])).includes('(touch) Z 1');
      // Reaping comes a moment after the end; a zombie that nobody reaps stays.
      while (!left && (await isZombie()));
      expect(await isZombie(), container).to.equal(left);
    }
  });

  it('passes signals on, and exits as the command does', async () => {
    const script = 'trap "exit 9" TERM; echo ready; while :; do sleep 0.1; done';
    await host.ok(['run', '-d', '--init', '--name', 'told', 'busybox', 'sh', '-c', script]);
    while ((await host.ok(['logs', 'told'])) !== 'ready');
    await host.ok(['stop', 'told']);
    expect(await host.ok(['inspect', '--format', '{{.State.ExitCode}}', 'told'])).to.equal('9');
    await host.ok(['rm', 'told']);
    // SIGTERM without a handler does nothing to a pid 1, but ends a command that is not.
    await host.ok(['stop', '-t', '60', 'with']);
    expect(await host.ok(['inspect', '--format', '{{.State.ExitCode}}', 'with'])).to.equal('143');
  });

  it('tells of a command that is not there as without an init', async () => {
    const missing = await run('busybox', 'nosuchcommand');
    expect(missing.code).to.equal(127);
    expect(missing.stderr).to.contain('nosuchcommand').and.contain('not found');
    expect((await run('busybox', '/etc/passwd')).code).to.equal(126);
  });
});
