import { execFile } from 'node:child_process';
import { access, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { type HrunHost, newHrunHost } from '../helpers/hrunHost.ts';
import {
  buildImage,
  layoutFiles,
  type TestImage,
  tarOf,
  tarOfDirectory,
  writeLayout,
} from '../helpers/images.ts';

const exec = promisify(execFile);

describe('image verbs', () => {
  let host: HrunHost;
  let image: TestImage;
  let layout: string;

  before(async () => {
    host = await newHrunHost();
    await host.ok(['images']);
    image = await busyboxImage('one');
    layout = join(host.directory, 'layout');
    await writeLayout(layout, layoutFiles([{ image, name: 'test.local/app:v1' }]));
  });
  after(() => host[Symbol.asyncDispose]());

  async function busyboxImage(marker: string): Promise<TestImage> {
    const files = tarOf([
      { name: 'bin', type: 'Directory' },
      { name: 'bin/busybox', content: await readFile('/bin/busybox'), mode: 0o755 },
      { name: 'bin/cat', type: 'SymbolicLink', target: 'busybox' },
      { name: 'marker', content: marker },
    ]);
    return buildImage({
      layers: [{ tar: files }],
      config: { Cmd: ['/bin/cat', '/marker'], Labels: { made: 'here' }, ExposedPorts: { '80/tcp': {} } },
    });
  }

  /** Runs the image and removes it. */
  async function runAndRemove(name: string): Promise<string> {
    const output = await host.ok(['run', '--rm', '--pull', 'never', name]);
    await host.ok(['rmi', name]);
    return output;
  }

  async function skopeo(source: string, destination: string): Promise<void> {
    await exec('skopeo', ['copy', '-q', '--insecure-policy', source, destination]);
  }

  it('load an OCI layout: directory, tar, compressed tar, stdin', async () => {
    const tar = join(host.directory, 'layout.tar');
    await exec('tar', ['-C', layout, '-cf', tar, '.']);
    await exec('zstd', ['-q', tar]);
    for (const path of [layout, tar, `${tar}.zst`]) {
      expect(await host.ok(['load', '-i', path])).to.equal('Loaded image: test.local/app:v1');
      expect(await runAndRemove('test.local/app:v1'), path).to.equal('one');
    }
    expect(await host.ok(['load', '-q'], { input: await readFile(tar) })).to.contain('test.local/app:v1');
    expect(await runAndRemove('test.local/app:v1')).to.equal('one');
    const relative = await host.ok(['load', '-i', 'layout.tar'], { cwd: host.directory });
    expect(relative).to.contain('test.local/app:v1');
    await host.ok(['rmi', 'test.local/app:v1']);
  });

  it('load the docker-archive of another tool', async () => {
    const path = join(host.directory, 'docker.tar');
    await skopeo(`oci:${layout}:test.local/app:v1`, `docker-archive:${path}:team/app:v2`);
    expect(await host.ok(['load', '-i', path])).to.equal('Loaded image: team/app:v2');
    expect(await runAndRemove('team/app:v2')).to.equal('one');
  });

  it('save what another tool and hrun read again', async () => {
    await host.ok(['load', '-i', layout]);
    const path = join(host.directory, 'saved.tar');
    await host.ok(['save', '-o', path, 'test.local/app:v1']);
    const copy = join(host.directory, 'copy');
    await skopeo(`docker-archive:${path}`, `oci:${copy}:x`);
    const { stdout } = await exec('skopeo', ['inspect', '--config', `oci:${copy}:x`]);
    expect(JSON.parse(stdout).rootfs.diff_ids).to.deep.equal(image.diffIds);
    const child = host.start(['save', 'test.local/app:v1'], { stdio: ['ignore', 'pipe', 'inherit'] });
    const saved = child.stdout === null ? Buffer.alloc(0) : await buffer(child.stdout);
    expect(Buffer.compare(saved, await readFile(path))).to.equal(0);
    await host.ok(['rmi', 'test.local/app:v1']);
    expect(await host.ok(['load', '-i', path])).to.equal('Loaded image: test.local/app:v1');
    const [details] = JSON.parse(await host.ok(['image', 'inspect', 'test.local/app:v1']));
    expect(details.Id).to.equal(image.config.digest);
    const refused = await host.hrun(['save', '-o', join(host.directory, 'none.tar'), 'nobody']);
    expect(refused.code).to.equal(1);
    expect((await readdir(host.directory)).filter((name) => name.startsWith('none'))).to.deep.equal([]);
  });

  it('import a root filesystem', async () => {
    const tree = join(host.directory, 'tree');
    await mkdir(join(tree, 'bin'), { recursive: true });
    await exec('cp', ['/bin/busybox', join(tree, 'bin/sh')]);
    await writeFile(join(tree, 'hello'), 'imported');
    const changes = [
      '-c',
      'CMD ["/bin/sh", "-c", "echo $WORD $PWD"]',
      '-c',
      'ENV WORD=said',
      '-c',
      'WORKDIR /bin',
    ];
    const id = await host.ok(['import', ...changes, '-', 'mine:1'], { input: await tarOfDirectory(tree) });
    expect(id).to.match(/^sha256:[0-9a-f]{64}$/);
    expect(await runAndRemove('mine:1')).to.equal('said /bin');
  });

  it('list, tag, inspect and remove', async () => {
    await host.ok(['load', '-i', layout]);
    const id = image.config.digest;
    const short = id.slice(7, 19);
    await host.ok(['tag', 'test.local/app:v1', 'other/name:v3']);
    await host.ok(['tag', short, 'third']);
    const [header, ...rows] = (await host.ok(['images'])).split('\n');
    expect(header).to.match(/^REPOSITORY\s+TAG\s+IMAGE ID\s+CREATED\s+SIZE$/);
    expect(
      rows
        .filter((row) => row.includes(short))
        .map((row) => row.split(/\s+/).slice(0, 2).join(':'))
        .sort(),
    ).to.deep.equal(['other/name:v3', 'test.local/app:v1', 'third:latest']);
    expect(await host.ok(['images', '-q', 'other/name'])).to.equal(short);
    expect(await host.ok(['images', '--format', '{{.Repository}}:{{.Tag}}', 'third'])).to.equal(
      'third:latest',
    );
    const json = (await host.ok(['images', '--format', 'json'])).split('\n').map((line) => JSON.parse(line));
    expect(json.map(({ Repository }) => Repository)).to.include('third');

    const [details] = JSON.parse(await host.ok(['inspect', 'third']));
    expect(details).to.deep.include({
      Id: id,
      Architecture: 'amd64',
      Os: 'linux',
      Created: '2024-05-06T07:08:09Z',
    });
    expect(details.RepoTags.toSorted()).to.deep.equal(['other/name:v3', 'test.local/app:v1', 'third:latest']);
    expect(details.Config).to.deep.include({ Cmd: ['/bin/cat', '/marker'], Labels: { made: 'here' } });
    expect(details.RootFS).to.deep.equal({ Type: 'layers', Layers: image.diffIds });
    expect(await host.ok(['image', 'inspect', '--format', '{{.Config.Labels.made}}', short])).to.equal(
      'here',
    );

    expect(await host.ok(['rmi', 'third'])).to.match(/^Untagged: \S*third:latest$/);
    const several = await host.hrun(['rmi', short]);
    expect(several.code).to.equal(1);
    expect(several.stderr).to.contain('has 2 names');
    expect(await host.ok(['rmi', '-f', short])).to.contain(`Deleted: ${id}`);
    const gone = await host.hrun(['image', 'inspect', 'test.local/app:v1']);
    expect(gone.code).to.equal(1);
    expect(gone.stderr).to.contain('no image "test.local/app:v1" is here');
    expect((await host.hrun(['rmi', 'test.local/app:v1'])).code).to.equal(1);
    expect((await host.hrun(['tag', 'nobody', 'x'])).code).to.equal(1);
  });

  it('keep an image that a container needs', async () => {
    await host.ok(['load', '-i', layout]);
    await host.ok(['create', '--name', 'user', 'test.local/app:v1']);
    const refused = await host.hrun(['rmi', 'test.local/app:v1']);
    expect(refused.code).to.equal(1);
    expect(refused.stderr).to.match(/needed by user\nhint: remove the containers first/);
    await host.ok(['image', 'prune', '-a', '-f']);
    expect(await host.ok(['start', '-a', 'user'])).to.equal('one');
    await host.ok(['rm', 'user']);
    await host.ok(['rmi', 'test.local/app:v1']);
  });

  it('prune what has no name, or what nobody needs, and give the space back', async () => {
    await host.ok(['load', '-i', layout]);
    await host.ok(['run', '--rm', 'test.local/app:v1']);
    const disk = join(host.root, 'images/disks', `${image.diffIds[0]?.slice(7)}.ext4`);
    await access(disk);
    const next = join(host.directory, 'next');
    await writeLayout(next, layoutFiles([{ image: await busyboxImage('two'), name: 'test.local/app:v1' }]));
    await host.ok(['load', '-i', next]);
    expect(await host.ok(['images', '-q', '--filter', 'dangling=true'])).to.equal(
      image.config.digest.slice(7, 19),
    );
    const pruned = await host.ok(['image', 'prune', '-f']);
    expect(pruned)
      .to.contain(`Deleted: ${image.config.digest}`)
      .and.match(/Total reclaimed space: [1-9]/);
    expect(
      (await readdir(join(host.root, 'images/disks'))).map((name) => join(host.root, 'images/disks', name)),
    ).not.to.include(disk);
    expect(await host.ok(['run', '--rm', '--pull', 'never', 'test.local/app:v1'])).to.equal('two');
    await host.ok(['image', 'prune', '-a', '-f']);
    expect(await host.ok(['images', '-q'])).to.equal('');
    expect(await readdir(join(host.root, 'images/disks'))).to.deep.equal([]);
    expect(await readdir(join(host.root, 'images/blobs/sha256'))).to.deep.equal([]);
  });

  it('say what is wrong with what is loaded', async () => {
    const cases: [input: string | Uint8Array, message: RegExp][] = [
      ['', /stdin .*\S/],
      ['no archive at all', /stdin/],
      [
        tarOf([{ name: 'etc/passwd', content: 'x' }]),
        /stdin has neither index.json nor manifest.json\nhint: .*hrun import/,
      ],
      [
        tarOf([
          { name: 'index.json', content: '{' },
          { name: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' },
        ]),
        /index.json/,
      ],
    ];
    for (const [input, message] of cases) {
      const { code, stderr } = await host.hrun(['load', '-q'], { input });
      expect(code).to.equal(1);
      expect(stderr).to.match(message);
    }
    const missing = await host.hrun(['load', '-i', '/no/such/file']);
    expect(missing.code).to.equal(1);
    expect(missing.stderr).to.contain('/no/such/file');
    expect(await readdir(join(host.root, 'images/blobs/sha256'))).to.deep.equal([]);
    expect(await readdir(join(host.root, 'images/tmp'))).to.deep.equal([]);
  });

  it('say so when an image has nothing to run', async () => {
    const empty = buildImage({ layers: [], config: {} });
    const files = layoutFiles([{ image: empty, name: 'test.local/empty:1' }]);
    await host.ok(['load'], { input: tarOf([...files].map(([name, content]) => ({ name, content }))) });
    const nothing = await host.hrun(['run', '--rm', 'test.local/empty:1']);
    expect({ code: nothing.code, stderr: nothing.stderr }).to.deep.equal({
      code: 125,
      stderr: 'hrun: the image test.local/empty:1 names no command\nhint: give one after the image\n',
    });
    const missing = await host.hrun(['run', '--rm', 'test.local/empty:1', '/bin/sh']);
    expect({ code: missing.code, stderr: missing.stderr }).to.deep.equal({
      code: 127,
      stderr: 'hrun: exec: "/bin/sh": stat /bin/sh: no such file or directory\n',
    });
  });
});
