import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { type ManagerHost, newManagerHost } from '../helpers/managerHost.ts';
import { ctrRuntime, type Manager, openContainerd, openDocker, openPodman } from '../helpers/managers.ts';

/** What a container that has a kernel of its own does not say. */
const hostKernel = release();

describe('the drop-in files of managers', () => {
  let managers: ManagerHost;

  before(async () => {
    managers = await newManagerHost();
  });
  after(() => managers[Symbol.asyncDispose]());

  describe('containers.conf', () => {
    let podman: Manager & AsyncDisposable;

    before(async () => {
      podman = await openPodman(managers);
    });
    after(() => podman[Symbol.asyncDispose]());

    it('makes podman find hrun by its name, and read its errors', async () => {
      const run = ['--runtime', 'hrun', 'run', '--rm', '--network=none', podman.image];
      expect(await podman.ok(...run, 'uname', '-r')).not.to.equal(hostKernel);
      const { code, stderr } = await managers.run(podman.argv(...run, '/no/such'));
      expect([code, stderr.includes('/no/such')]).to.deep.equal([127, true]);
    });

    it('copies to and from a volume, and shows a process that was added', async () => {
      const [volume, local] = [join(managers.directory, 'volume'), join(managers.directory, 'local')];
      await mkdir(volume);
      await writeFile(local, 'of the host\n');
      const hrun = ['--runtime', 'hrun'];
      const place = ['--network=none', '-v', `${volume}:/data`];
      await podman.ok(...hrun, 'run', '-d', '--name', 'v', ...place, podman.image, 'sleep', '1000');
      await podman.ok(...hrun, 'cp', local, 'v:/data/in');
      expect(await readFile(join(volume, 'in'), 'utf8')).to.equal('of the host\n');
      expect(
        await podman.ok(...hrun, 'exec', 'v', 'sh', '-c', 'cat /data/in; echo guest > /data/out'),
      ).to.equal('of the host');
      await podman.ok(...hrun, 'cp', 'v:/data/out', `${local}.out`);
      expect(await readFile(`${local}.out`, 'utf8')).to.equal('guest\n');
      await podman.ok(...hrun, 'exec', '-d', 'v', 'sleep', '2000');
      expect(await podman.ok(...hrun, 'top', 'v', 'args'))
        .to.contain('sleep 1000')
        .and.contain('sleep 2000');
      await podman.ok(...hrun, 'rm', '-f', '-t', '0', 'v');
    });

    it('lets a container that wants the host’s network go to runc, for its whole life', async () => {
      const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024'];
      const hrun = ['--runtime', 'hrun', '--runtime-flag', 'host-network-runtime=runc'];
      const run = [...hrun, 'run', ...limits, '--network=host'];
      expect(await podman.ok(...run, '--rm', podman.image, 'uname', '-r')).to.equal(hostKernel);
      const script = 'trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done';
      await podman.ok(...run, '-d', '--name', 'h', podman.image, 'sh', '-c', script);
      expect(await podman.ok(...hrun, 'exec', 'h', 'uname', '-r')).to.equal(hostKernel);
      // One beside it that has a network of its own is a microVM all the same.
      const own = [...hrun, 'run', '--rm', '--network=none', podman.image, 'uname', '-r'];
      expect(await podman.ok(...own)).not.to.equal(hostKernel);
      while (!(await podman.ok('logs', 'h')).includes('ready'));
      await podman.ok(...hrun, 'stop', 'h');
      expect(await podman.ok(...hrun, 'inspect', '--format', '{{.State.ExitCode}}', 'h')).to.equal('5');
      await podman.ok(...hrun, 'rm', '-f', 'h');
      const kept = JSON.parse(await readFile(join(managers.host.run, 'handed-over.json'), 'utf8'));
      expect(kept).to.deep.equal({ version: 1, containers: [] });
    });

    it('refuses the host’s network in words that say what to do, where there is no other runtime', async () => {
      const run = ['--runtime', 'hrun', 'run', '--rm', '--network=host', podman.image, 'true'];
      const { code, stderr } = await managers.run(podman.argv(...run));
      expect([code, stderr.includes('--host-network-runtime')], stderr).to.deep.equal([126, true]);
    });
  });

  describe('containerd.toml', () => {
    it('adds the runtime to a configuration, and ctr runs it', async () => {
      const containerd = await openContainerd(managers);
      const config = join(managers.directory, 'containerd/config.toml');
      const dump = await managers.ok('containerd', '-c', config, 'config', 'dump');
      expect(dump).to.match(/runtimes\.hrun\.options\]\s+BinaryName = "\/usr\/local\/bin\/hrun"/);
      // It does not load for a default runtime that the file takes away.
      const plugins = (await containerd.ok('plugins', 'ls')).split('\n');
      expect(plugins.find((line) => /\bcri\b/.test(line))).to.match(/\bok\b/);
      const run = ['run', '--rm', ...ctrRuntime('/usr/local/bin/hrun'), containerd.image, 'c'];
      expect(await containerd.ok(...run, 'uname', '-r')).not.to.equal(hostKernel);
    });
  });

  describe('daemon.json', () => {
    it('gives docker a runtime that runs beside its own', async () => {
      const docker = await openDocker(managers);
      const run = ['run', '--rm', '--runtime', 'hrun', '--network'];
      expect(await docker.ok(...run, 'none', docker.image, 'uname', '-r')).not.to.equal(hostKernel);
      // dockerd says "the host's network" by the path of its own namespace.
      const { code, stderr } = await managers.run(docker.argv(...run, 'host', docker.image, 'true'));
      expect([code, stderr.includes('--host-network-runtime')], stderr).to.deep.equal([125, true]);
    });
  });
});
