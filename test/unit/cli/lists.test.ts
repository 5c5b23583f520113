import { expect } from 'chai';
import { damageOf } from '../../../src/base/damage.ts';
import type { ContainerId, Digest } from '../../../src/base/ids.ts';
import type { ContainerSummary, ImageSummary } from '../../../src/runtime/views.ts';
import { aId, imageId, nowMs, runCli } from '../../helpers/cli.ts';

const minuteMs = 60_000;

const web: ContainerSummary = {
  id: aId,
  name: 'web',
  image: 'busybox',
  imageId,
  command: ['sh', '-c', 'echo "a very long command"'],
  createdAtMs: nowMs - 3 * minuteMs,
  status: 'running',
  startedAtMs: nowMs - 2 * minuteMs,
  exitCode: 0,
  labels: { tier: 'front', 'a.b': 'c' },
  networks: ['bridge'],
  ports: [{ hostIp: '', hostPort: 8080, guestPort: 80, protocol: 'tcp' }],
  mounts: ['/data'],
  volumes: 0,
};
const job: ContainerSummary = {
  ...web,
  id: 'b'.repeat(64) as ContainerId,
  name: 'job',
  image: 'debian:12',
  command: ['true'],
  createdAtMs: nowMs - minuteMs,
  status: 'exited',
  finishedAtMs: nowMs - 30_000,
  exitCode: 3,
  labels: {},
  mounts: [],
};
const fresh: ContainerSummary = {
  ...job,
  id: 'c'.repeat(64) as ContainerId,
  name: 'fresh',
  status: 'created',
  createdAtMs: nowMs - 1000,
  exitCode: 0,
};

const containers = { list: async () => [job, web, fresh] };
const ps = async (...args: string[]) => runCli(['ps', ...args], { containers });
const names = async (...args: string[]) =>
  (await ps('--format', '{{.Names}}', ...args)).stdout.trim().split('\n').join(' ');

describe('hrun ps', () => {
  it('shows what runs, in a table like Docker', async () => {
    expect((await ps()).stdout).to.equal(
      [
        'CONTAINER ID   IMAGE     COMMAND                   CREATED         STATUS         PORTS                                     NAMES',
        `aaaaaaaaaaaa   busybox   "sh -c 'echo \\"a very…"   3 minutes ago   Up 2 minutes   0.0.0.0:8080->80/tcp, [::]:8080->80/tcp   web`,
        '',
      ].join('\n'),
    );
  });

  it('shows all, newest first', async () => {
    expect(await names('-a')).to.equal('fresh job web');
    expect((await ps('-a', '--format', '{{.Status}}|{{.State}}')).stdout).to.equal(
      'Created|created\nExited (3) 30 seconds ago|exited\nUp 2 minutes|running\n',
    );
  });

  it('shows ids, whole ones if asked', async () => {
    expect((await ps('-q')).stdout).to.equal('aaaaaaaaaaaa\n');
    expect((await ps('-aq', '--no-trunc')).stdout).to.include(`${aId}\n`);
  });

  it('shows the last ones in any state', async () => {
    expect(await names('-l')).to.equal('fresh');
    expect(await names('-n', '2')).to.equal('fresh job');
  });

  for (const [filter, found] of [
    ['status=exited', 'job'],
    ['status=exited status=created', 'fresh job'],
    ['exited=3', 'job'],
    ['name=^w', 'web'],
    ['name=o', 'job'],
    ['id=bbb', 'job'],
    ['label=tier', 'web'],
    ['label=tier=front', 'web'],
    ['label=tier=back', ''],
    ['ancestor=busybox', 'web'],
    ['ancestor=111111111111', 'fresh job web'],
    ['before=job', 'web'],
    ['since=job', 'fresh'],
  ] as const) {
    it(`filters by ${filter}`, async () => {
      const flags = filter.split(' ').flatMap((one) => ['-f', one]);
      expect(await names('-a', ...flags)).to.equal(found);
    });
  }

  it('refuses wrong filters', async () => {
    for (const filter of ['nope=1', 'status=odd', 'before=nobody']) {
      const { code, stderr } = await ps('-f', filter);
      expect([code, stderr.startsWith('hrun: ')]).to.deep.equal([1, true]);
    }
    expect(await ps('-f', 'status')).to.include({ code: 125, stdout: '' });
  });

  it('refuses a wrong template like anything else', async () => {
    expect((await ps('--format', '{{')).code).to.equal(1);
  });

  it('prints JSON lines and own tables', async () => {
    const line = JSON.parse((await ps('--format', 'json')).stdout);
    expect(line).to.include({
      ID: 'aaaaaaaaaaaa',
      Names: 'web',
      State: 'running',
      Labels: 'tier=front,a.b=c',
    });
    const table = await ps('--format', 'table {{.Names}}\\t{{.Label "tier"}}');
    expect(table.stdout).to.equal('NAMES     tier\nweb       front\n');
    expect((await ps('-s', '--format', 'table')).stdout).to.include('SIZE');
  });

  it('says what it cannot show, beside what it shows', async () => {
    const path = `/r/containers/${aId}/container.json`;
    const damages = () => [damageOf('container', aId, path, new SyntaxError('x\u001b[2J'))];
    const outcome = await runCli(['ps', '-aq'], {
      containers: { list: async () => [job] },
      system: { damages },
    });
    expect(outcome).to.include({ code: 0, stdout: 'bbbbbbbbbbbb\n' });
    expect(outcome.stderr).to.equal(
      `hrun: warning: container aaaaaaaaaaaa is damaged: ${path} cannot be read: x?[2J\n` +
        'hint: restore it and start the daemon again, or remove the container with: hrun rm --force aaaaaaaaaaaa\n',
    );
  });

  it('does not let a label move the cursor', async () => {
    const evil = { ...web, labels: { x: '\u001b[2J' } };
    const outcome = await runCli(['ps', '--format', 'table {{.Labels}}\\t{{.Names}}'], {
      containers: { list: async () => [evil] },
    });
    expect(outcome.stdout).to.include('x=?[2J');
  });
});

const busybox: ImageSummary = {
  id: imageId,
  repository: 'docker.io/library/busybox',
  tag: 'latest',
  digest: `sha256:${'d'.repeat(64)}` as Digest,
  createdAtMs: nowMs - 21 * 24 * 60 * minuteMs,
  sizeBytes: 4_261_550,
  labels: { maintainer: 'x' },
  containers: 1,
};
const local: ImageSummary = {
  ...busybox,
  id: `sha256:${'2'.repeat(64)}` as Digest,
  repository: 'localhost:5000/team/app',
  tag: '1.0',
  createdAtMs: nowMs,
  labels: {},
};
const {
  repository: _repository,
  tag: _tag,
  ...unnamed
} = { ...busybox, id: `sha256:${'3'.repeat(64)}` as Digest };
const images = (...args: string[]) =>
  runCli(['images', ...args], { images: { list: async () => [busybox, local, unnamed] } });
const repositories = async (...args: string[]) =>
  (await images('--format', '{{.Repository}}', ...args)).stdout.trim().split('\n').join(' ');

describe('hrun images', () => {
  it('is a table like Docker', async () => {
    expect((await images()).stdout).to.equal(
      [
        'REPOSITORY                TAG       IMAGE ID       CREATED                  SIZE',
        'localhost:5000/team/app   1.0       222222222222   Less than a second ago   4.26MB',
        'busybox                   latest    111111111111   3 weeks ago              4.26MB',
        '<none>                    <none>    333333333333   3 weeks ago              4.26MB',
        '',
      ].join('\n'),
    );
  });

  it('shows digests and ids', async () => {
    expect((await images('--digests')).stdout)
      .to.include(`DIGEST`)
      .and.include(`sha256:${'d'.repeat(64)}`);
    expect((await images('-q')).stdout).to.equal('222222222222\n111111111111\n333333333333\n');
  });

  it('filters', async () => {
    expect(await repositories('busybox')).to.equal('busybox');
    expect(await repositories('busybox:1')).to.equal('');
    expect(await repositories('-f', 'dangling=true')).to.equal('<none>');
    expect(await repositories('-f', 'reference=localhost:5000/*/app:1.*')).to.equal(
      'localhost:5000/team/app',
    );
    expect(await repositories('-f', 'label=maintainer=x', '-f', 'dangling=false')).to.equal('busybox');
    expect(await repositories('-f', 'since=busybox')).to.equal('localhost:5000/team/app');
  });
});
