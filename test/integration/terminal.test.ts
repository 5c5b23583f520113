import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { type HrunHost, hrunPath, newHrunHost } from '../helpers/hrunHost.ts';
import { type PtyCommand, startOnPty } from '../helpers/pty.ts';

const execute = promisify(execFile);
const ctrlC = '\x03';
const ctrlP = '\x10';
const ctrlQ = '\x11';

describe('a terminal, through the whole chain', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost();
    await host.ok(['run', '--rm', 'busybox', 'true']);
  });
  after(() => host[Symbol.asyncDispose]());
  afterEach(async () => {
    const left = await host.ok(['ps', '-aq']);
    if (left !== '') await host.ok(['rm', '-f', ...left.split('\n')]);
  });

  const open = (...args: string[]): PtyCommand =>
    startOnPty([hrunPath, ...args], { rows: 24, columns: 80, env: host.env });

  const sh = (script: string, ...flags: string[]): PtyCommand =>
    open('run', '-it', ...flags, 'busybox', 'sh', '-c', script);

  it('is raw on the host while the workload has one of its own, and as before afterwards', async () => {
    await using pty = sh('test -t 0 && test -t 1 && tty; cat', '--rm');
    const before = await pty.settings();
    expect(before)
      .to.match(/ icanon/)
      .and.match(/ echo /);
    await pty.until(/\/dev\/(pts\/\d+|console)/);
    expect(await pty.settings())
      .to.match(/-icanon/)
      .and.match(/-echo /)
      .and.match(/-isig/);
    pty.type('once\r');
    // The guest's terminal echoes, cat answers, and nobody else adds anything.
    await pty.until(/once\r\nonce\r\n/);
    pty.type('\x04');
    expect(await pty.exit()).to.equal(0);
    expect(pty.text.match(/once/g)).to.have.length(2);
    expect(await pty.settings()).to.equal(before);
  });

  it('has its size, and every later one', async () => {
    const script = 'trap "stty size" WINCH; stty size; echo ready; while :; do sleep 0.1; done';
    await using pty = sh(script, '--rm');
    await pty.until(/24 80\r\n/);
    await pty.until(/ready/);
    pty.resize(31, 101);
    await pty.until(/31 101\r\n/);
    pty.resize(7, 9);
    await pty.until(/7 9\r\n/);
    pty.type(ctrlC);
    expect(await pty.exit()).to.equal(130);
  });

  it('makes of Ctrl-C a signal inside, not here', async () => {
    await using pty = sh('trap "echo caught; exit 7" INT; echo ready; while :; do sleep 0.1; done', '--rm');
    await pty.until(/ready/);
    pty.type(ctrlC);
    await pty.until(/caught/);
    expect(await pty.exit()).to.equal(7);
  });

  it('is left by the detach keys, and the workload goes on and can be attached to again', async () => {
    await using pty = sh('echo ready; while read line; do echo "got $line"; done; exit 3', '--name', 'left');
    await pty.until(/ready/);
    const outside = await pty.settings();
    expect(outside).to.match(/-icanon/);
    // One key of the two is nothing yet, and goes to the workload with what follows.
    pty.type(`a${ctrlP}b\r`);
    await pty.until(/got a\x10b\r\n/);
    pty.type(`${ctrlP}${ctrlQ}`);
    expect(await pty.exit()).to.equal(0);
    expect(pty.text).to.contain('read escape sequence');
    expect(await pty.settings()).to.match(/ icanon/);
    expect(await host.ok(['inspect', '--format', '{{.State.Running}}', 'left'])).to.equal('true');

    await using again = open('attach', '--detach-keys', 'ctrl-a,x', 'left');
    await again.untilRaw();
    again.type('back\r');
    await again.until(/got back\r\n/);
    again.type('\x01x');
    expect(await again.exit()).to.equal(0);
    await using last = open('attach', 'left');
    await last.untilRaw();
    last.type('\x04');
    expect(await last.exit()).to.equal(3);
  });

  it('works for exec as for run', async () => {
    await host.ok(['run', '-d', '--name', 'holder', 'busybox', 'sleep', '1000']);
    const script = 'trap "stty size" WINCH; stty size; echo ready; while :; do sleep 0.1; done';
    await using pty = open('exec', '-it', 'holder', 'sh', '-c', script);
    await pty.until(/24 80\r\n/);
    await pty.until(/ready/);
    pty.resize(50, 60);
    await pty.until(/50 60\r\n/);
    pty.type(`${ctrlP}${ctrlQ}`);
    expect(await pty.exit()).to.equal(0);
    expect(await host.ok(['top', 'holder'])).to.contain('trap');
  });

  it('shows progress as bars, and elsewhere as lines', async () => {
    const file = join(host.directory, 'root.tar');
    await execute('tar', ['-C', '/usr/share/common-licenses', '-cf', file, '.']);
    await using pty = open('import', file, 'licenses');
    expect(await pty.exit()).to.equal(0);
    expect(pty.text).to.match(/root\.tar: Loading \[=+> *\] [\d.]+k?M?B\/[\d.]+k?M?B/);
    const { stderr } = await host.hrun(['import', file, 'licenses']);
    expect(stderr).to.equal(`${file}: Loading\n`);
  });

  it('is refused where there is none', async () => {
    const { code, stderr } = await host.hrun(['run', '-it', 'busybox', 'true'], { input: '' });
    expect(code).to.equal(1);
    expect(stderr).to.contain('not a TTY');
  });
});
