import { expect } from 'chai';
import { HrunError } from '../../../../src/base/errors.ts';
import { logLine } from '../../../../src/cli/oci/ociLog.ts';
import { linesOf } from '../../../../src/cli/oci/ps.ts';
import { runCli } from '../../../helpers/cli.ts';

const missing = () => {
  throw new HrunError('NOT_FOUND', 'container does not exist');
};

describe("runc's command line", () => {
  it('tells an error as a line of its log on stderr', async () => {
    const { code, stderr } = await runCli(['state', 'c'], { oci: { state: missing } });
    expect(code).to.equal(1);
    expect(stderr).to.match(/^time="[^"]+Z" level=error msg="container does not exist"\n$/);
  });

  it('tells it in the log file and bare on stderr with --log', async () => {
    const argv = ['--log', '/l', '--log-format', 'json', 'state', 'c'];
    const { code, stderr, written } = await runCli(argv, { oci: { state: missing } });
    expect(code).to.equal(1);
    expect(stderr).to.equal('container does not exist\n');
    expect(JSON.parse(written.get('/l') ?? '')).to.include({
      level: 'error',
      msg: 'container does not exist',
    });
  });

  it('answers with the codes of runc', async () => {
    expect((await runCli(['oci', 'nope'])).code).to.equal(3);
    expect(
      (await runCli(['delete', '--force', 'c'], { oci: { delete: async () => missing() } })).code,
    ).to.equal(0);
    expect((await runCli(['delete', 'c'], { oci: { delete: async () => missing() } })).code).to.equal(1);
    const exec = async () => missing();
    const failed = await runCli(['oci', 'exec', 'c', 'true'], { oci: { exec } });
    expect(failed.code).to.equal(255);
    expect(failed.stderr).to.contain('exec failed: container does not exist');
    expect((await runCli(['checkpoint', '--help'])).code).to.equal(0);
    expect((await runCli(['checkpoint', 'c'])).code).to.equal(1);
  });

  it('refuses ids that are none', async () => {
    for (const id of ['../x', 'a/b', '.', '..', 'a b', 'x'.repeat(1025)]) {
      const { code, stderr } = await runCli(['state', id], { oci: { state: missing } });
      expect([code, stderr.includes('invalid container ID format')], id).to.deep.equal([1, true]);
    }
    expect((await runCli(['state', ''], { oci: { state: missing } })).stderr).to.contain(
      'container id cannot be empty',
    );
  });

  it('counts arguments as runc does', async () => {
    expect((await runCli(['state'])).stderr).to.contain('requires exactly 1 argument');
    expect((await runCli(['oci', 'kill'])).stderr).to.contain('requires a minimum of 1 argument');
  });

  it('shows the help of a verb that was misused, and answers 1', async () => {
    for (const argv of [
      ['oci', 'exec'],
      ['oci', 'exec', '--bogus', 'c', 'true'],
      ['update', '--cpu-share', 'x', 'c'],
    ]) {
      const { code, stdout, stderr } = await runCli(argv);
      expect(code, argv.join(' ')).to.equal(1);
      expect(stdout).to.match(/^Incorrect Usage: .+\n\nNAME:\n {3}hrun (exec|update) - /);
      expect(stderr).to.match(/^time=.+ level=error msg=/);
    }
  });

  it('says with runc what failed', async () => {
    const said = async (...argv: string[]) =>
      (await runCli(argv, { oci: { create: async () => missing(), stats: async () => missing() } })).stderr;
    expect(await said('create', '--bundle', '/b', 'c')).to.contain('msg="runc create failed: container');
    expect(await said('oci', 'run', '--detach', '--bundle', '/b', 'c')).to.contain(
      'msg="runc run failed: container',
    );
    expect(await said('update', '--l3-cache-schema', 'x', 'c')).to.contain(
      'Intel RDT/CAT: l3 cache schema is not',
    );
  });

  it('takes signals by name or number, and refuses others in the words of runc', async () => {
    const sent: number[] = [];
    const oci = { has: () => true, kill: async (_: unknown, signal: number) => void sent.push(signal) };
    for (const signal of ['9', 'TERM', 'SIGUSR1', '0']) await runCli(['oci', 'kill', 'c', signal], { oci });
    expect(sent).to.deep.equal([9, 15, 10, 0]);
    expect((await runCli(['oci', 'kill', 'c', 'X'], { oci })).stderr).to.contain('unknown signal \\"X\\"');
  });

  it('refuses descriptors by name', async () => {
    const { code, stderr } = await runCli(['create', '--preserve-fds', '2', 'c'], {
      oci: { create: async () => {} },
    });
    expect(code).to.equal(1);
    expect(stderr).to.contain('--preserve-fds');
  });

  it('prints what dockerd reads of --version', async () => {
    expect((await runCli(['--version'])).stdout).to.match(
      /^hrun version 1\.2\.3\ncommit: .+\nspec: 1\.\d+\.\d+\n$/,
    );
  });

  it('quotes the text log as logrus does', () => {
    const now = new Date(0);
    const text = { path: undefined, format: 'text' } as const;
    expect(logLine('plain', text, now)).to.equal('time="1970-01-01T00:00:00Z" level=error msg=plain\n');
    expect(logLine('a "b"', text, now)).to.contain('msg="a \\"b\\""');
  });

  it('shows the lines of ps that belong to the container', () => {
    const table = 'UID PID CMD\nroot 1 init\nroot 12 sh\n';
    expect(linesOf(table, new Set([12]))).to.equal('UID PID CMD\nroot 12 sh\n');
  });
});
