import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { type FSWatcher, watch } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { type DebianImage, debianImage } from '../helpers/debian.ts';
import { fileTree, mountDisk, treeDifferences } from '../helpers/fileTree.ts';
import { type HrunHost, newHrunHost } from '../helpers/hrunHost.ts';
import { buildImage, layoutFiles, pushLayout, writeLayout } from '../helpers/images.ts';
import { oddLowerLayer, oddUpperLayer } from '../helpers/oddImage.ts';
import { startRegistry, type TestRegistry } from '../helpers/registry.ts';
import { temporaryDirectory } from '../helpers/tempDir.ts';

const exec = promisify(execFile);

describe('images', () => {
  let host: HrunHost;
  let registry: TestRegistry;
  let debian: DebianImage;
  const cleanUp = new AsyncDisposableStack();

  before(async function () {
    this.timeout(600_000); // debootstrap, when its result is not cached
    debian = await debianImage();
    registry = cleanUp.use(await startRegistry());
    host = cleanUp.use(await newHrunHost());
    await host.ok(['images']); // makes the directories
    await pushLayout(debian.layout, 'debian', `${registry.address}/debian:oci`);
    await pushLayout(debian.layout, 'debian', `${registry.address}/debian:v2s2`, { format: 'v2s2' });
  });
  after(() => cleanUp.disposeAsync());

  /** By name, what the disks of images are like now. */
  async function disks(): Promise<Record<string, string>> {
    const directory = join(host.root, 'images/disks');
    const found: Record<string, string> = {};
    for (const name of await readdir(directory)) {
      const { ino, mtimeMs, ctimeMs, blocks } = await stat(join(directory, name));
      found[name] = [ino, mtimeMs, ctimeMs, blocks].join(' ');
    }
    return found;
  }

  /** Runs a command in an image and gives its output and the disks that were made for it. */
  async function runNew(image: string, ...command: string[]): Promise<{ output: string; disk: string }> {
    const before = await disks();
    const output = await host.ok(['run', '--rm', image, ...command]);
    const made = Object.keys(await disks()).filter((name) => !(name in before));
    return { output, disk: join(host.root, 'images/disks', made[0] ?? 'none') };
  }

  /** `forgotten`: directories whose times umoci does not keep. */
  async function expectTreeOfUmoci(
    layout: string,
    disk: string,
    forgotten: readonly string[] = [],
  ): Promise<number> {
    await using directory = await temporaryDirectory();
    const bundle = join(directory.path, 'bundle');
    await exec('umoci', ['unpack', '--image', layout, bundle]);
    await using mounted = await mountDisk(disk);
    const wanted = await fileTree(join(bundle, 'rootfs'));
    const differences = treeDifferences(await fileTree(mounted.path), wanted);
    const surprising = differences.filter(
      (line) => !forgotten.some((path) => line.startsWith(`${path}: 40755 0:0 `)),
    );
    expect(surprising.slice(0, 20)).to.deep.equal([]);
    return wanted.size;
  }

  describe('of a Debian system', () => {
    it('are pulled from a registry and run, and have the tree that umoci makes of them', async () => {
      const name = `${registry.address}/debian:oci`;
      expect(await host.ok(['pull', '-q', name])).to.equal(name);
      const { output, disk } = await runNew(name, 'cat', '/etc/debian_version');
      expect(output).to.equal(debian.version);
      expect(await expectTreeOfUmoci(`${debian.layout}:debian`, disk)).to.be.greaterThan(6000);
      await exec('/usr/sbin/e2fsck', ['-fn', disk]);
    });

    it('work: programs, packages and users are as in any Debian', async () => {
      const script =
        'perl -e "print 6*7"; echo; dpkg --audit; dpkg -s bash | grep Status; id -un; df -T / | tail -1';
      const output = await host.ok([
        'run',
        '--rm',
        '-u',
        'nobody',
        `${registry.address}/debian:oci`,
        'sh',
        '-c',
        script,
      ]);
      expect(output).to.match(/^42\nStatus: install ok installed\nnobody\noverlay /);
    });

    it('cost nothing the second time: no microVM but the container’s, no disk touched', async () => {
      await host.ok(['pool', 'set', '--ready', '0']);
      const before = await disks();
      const made: string[] = [];
      await using _watching = watchVms(join(host.run, 'vms'), made);
      await host.ok(['run', '--rm', `${registry.address}/debian:oci`, 'true']);
      expect(new Set(made).size).to.equal(1);
      expect(await disks()).to.deep.equal(before);
    });

    it('in Docker’s format share the disk of the same layers', async () => {
      const before = await disks();
      const name = `${registry.address}/debian:v2s2`;
      expect(await host.ok(['run', '--rm', name, 'cat', '/etc/debian_version'])).to.equal(debian.version);
      expect(await disks()).to.deep.equal(before);
      const [details] = JSON.parse(await host.ok(['image', 'inspect', name]));
      expect(details).to.nested.include({ Os: 'linux', 'Config.Cmd[0]': 'bash' });
      const { stdout } = await exec('skopeo', ['inspect', '--tls-verify=false', `docker://${name}`]);
      expect(details.RepoDigests).to.include(`${registry.address}/debian@${JSON.parse(stdout).Digest}`);
    });
  });

  describe('of odd layers', () => {
    const work = new AsyncDisposableStack();
    let layout: string;

    before(async () => {
      const directory = work.use(await temporaryDirectory());
      layout = join(directory.path, 'layout');
      const lower = await oddLowerLayer(join(directory.path, 'lower'));
      const layers = [{ tar: lower }, { tar: oddUpperLayer }];
      const other = buildImage({
        layers: [
          { tar: lower, compression: 'zstd' },
          { tar: oddUpperLayer, compression: 'none' },
        ],
      });
      // umoci reads no zstd: it gets the same layers as gzip.
      const files = layoutFiles([
        { image: buildImage({ layers }), name: 'gzip' },
        { image: buildImage({ layers: layers.slice(0, 1) }), name: 'lower' },
        { image: other, name: 'zstd' },
      ]);
      await writeLayout(layout, files);
      await pushLayout(layout, 'zstd', `${registry.address}/odd:zstd`);
      await pushLayout(layout, 'lower', `${registry.address}/odd:lower`);
    });
    after(() => work.disposeAsync());

    it('keep owners, modes, times, names, links, devices and attributes', async () => {
      const { disk } = await runNew(`${registry.address}/odd:lower`, 'sh', '-c', ':');
      await expectTreeOfUmoci(`${layout}:lower`, disk);
    });

    it('are hidden, replaced and linked to by layers above, whatever their compression', async () => {
      const { disk } = await runNew(`${registry.address}/odd:zstd`, 'sh', '-c', ':');
      await expectTreeOfUmoci(`${layout}:gzip`, disk, ['./opaque', './opaque/deep']);
    });

    it('mean in the guest what they should: set-id, capabilities, devices, names', async () => {
      const script = [
        'busybox.setuid ping -c 1 127.0.0.1 | grep -c "1 packets received"',
        'busybox ping -c 1 127.0.0.1 2>&1',
        'busybox.capable chown 5 mine && busybox stat -c %u mine',
        'busybox chown 6 mine 2>&1',
        'busybox stat -c "%t:%T %F" /nodes/null-like /nodes/far',
        'busybox ls /names | busybox wc -l',
        'busybox cat /hard/four; echo; busybox stat -c %h /hard/one',
        'echo $(busybox ls /opaque /opaque/deep /becomes-link)',
      ];
      const command = ['sh', '-c', `cd /tmp; busybox touch mine; ${script.join('; ')}`];
      const output = await host.ok([
        'run',
        '--rm',
        '-u',
        '1000',
        '--tmpfs',
        '/tmp',
        `${registry.address}/odd:zstd`,
        ...command,
      ]);
      expect(output.split('\n')).to.deep.equal([
        '1',
        'PING 127.0.0.1 (127.0.0.1): 56 data bytes',
        'ping: permission denied (are you root?)',
        '5',
        'chown: mine: Operation not permitted',
        '1:3 character special file',
        '103:493e0 block special file',
        '10',
        'hard/one',
        '3',
        '/becomes-link: back kept /opaque: deep new /opaque/deep: own',
      ]);
    });
  });
});

/** Collects the names of microVMs that come up until it is disposed. */
function watchVms(directory: string, made: string[]): AsyncDisposable {
  const watcher: FSWatcher = watch(directory, (_, name) => {
    if (name !== null) made.push(name);
  });
  return {
    [Symbol.asyncDispose]: async () => {
      const closed = once(watcher, 'close');
      watcher.close();
      await closed;
    },
  };
}
