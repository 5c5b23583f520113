import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect } from 'chai';
import type { ContainerSummary, ImageSummary } from '../../../src/runtime/views.ts';
import { aId, imageId, nowMs, runCli } from '../../helpers/cli.ts';

const execute = promisify(execFile);

const container = (name: string, status: ContainerSummary['status']): ContainerSummary => ({
  id: aId,
  name,
  image: 'busybox',
  imageId,
  command: ['sh'],
  createdAtMs: nowMs,
  status,
  exitCode: 0,
  labels: {},
  mounts: [],
  networks: [],
  ports: [],
  volumes: 0,
});
const image: ImageSummary = {
  id: imageId,
  repository: 'docker.io/library/busybox',
  tag: 'latest',
  createdAtMs: nowMs,
  sizeBytes: 1,
  labels: {},
  containers: 0,
};

async function complete(...words: string[]): Promise<string[]> {
  const { code, stdout } = await runCli(['__complete', ...words], {
    containers: { list: async () => [container('web', 'running'), container('old', 'exited')] },
    images: { list: async () => [image] },
  });
  expect(code).to.equal(0);
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('\t')[0] ?? '');
}

describe('completion', () => {
  it('knows the verbs, and those of a group, but not its own', async () => {
    expect(await complete('re')).to.deep.equal(['restart', 'rename']);
    expect(await complete('image', 'i')).to.deep.equal(['import', 'inspect']);
    expect(await complete(''))
      .to.include('run')
      .and.include('image')
      .and.not.include('__complete');
  });

  it('knows the options of a verb, and the values of those that have a choice', async () => {
    expect(await complete('run', '--cap-')).to.deep.equal(['--cap-add', '--cap-drop']);
    expect(await complete('run', '--pull', '')).to.deep.equal(['always', 'missing', 'never']);
    expect(await complete('run', '--name', '')).to.deep.equal([]);
  });

  it('offers what a verb can work on', async () => {
    expect(await complete('exec', '')).to.deep.equal(['web']);
    expect(await complete('exec', '-it', 'w')).to.deep.equal(['web']);
    expect(await complete('start', '')).to.deep.equal(['old']);
    expect(await complete('rm', '-f', '')).to.deep.equal(['web', 'old']);
    expect(await complete('cp', 'w')).to.deep.equal(['web:']);
    expect(await complete('run', '--rm', 'b')).to.deep.equal(['busybox:latest']);
    expect(await complete('inspect', '')).to.deep.equal(['web', 'old', 'busybox:latest']);
  });

  it('leaves other programs’ command lines and full ones alone', async () => {
    expect(await complete('run', 'busybox', '')).to.deep.equal([]);
    expect(await complete('exec', 'web', '--')).to.deep.equal([]);
    expect(await complete('logs', 'web', '')).to.deep.equal([]);
  });

  it('works in bash', async () => {
    const { stdout: script } = await runCli(['completion', 'bash']);
    const asking = [
      script,
      'hrun() { shift; printf "asked:%s\\tabout\\n" "$@"; }',
      'COMP_WORDS=(hrun exec "a b" "we") COMP_CWORD=3',
      '_hrun',
      `printf "%s\\n" "\${COMPREPLY[@]}"; complete -p hrun`,
    ].join('\n');
    const { stdout } = await execute('bash', ['-c', asking]);
    expect(stdout).to.equal(
      'asked:exec\nasked:a b\nasked:we\ncomplete -o bashdefault -o default -F _hrun hrun\n',
    );
  });

  it('has a script for zsh and fish, and for no other', async () => {
    for (const shell of ['zsh', 'fish']) {
      expect((await runCli(['completion', shell])).stdout).to.contain('hrun __complete');
    }
    const unknown = await runCli(['completion', 'tcsh']);
    expect(unknown.code).to.equal(1);
    expect(unknown.stderr).to.contain('tcsh').and.contain('bash, zsh, fish');
  });
});
