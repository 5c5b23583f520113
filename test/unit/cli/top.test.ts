import { expect } from 'chai';
import type { ProcessRow } from '../../../src/runtime/views.ts';
import { nowMs, runCli } from '../../helpers/cli.ts';

const process_: ProcessRow = {
  pid: 7,
  ppid: 1,
  uid: 65534,
  user: 'nobody',
  startMs: nowMs - 3_723_000,
  cpuTimeMs: 65_000,
  cpuPercent: 12.34,
  rssBytes: 2_097_152,
  tty: 'pts/0',
  args: ['/bin/sleep', '10 0'],
};

const top = (...options: string[]) =>
  runCli(['top', 'web', ...options], { containers: { top: async () => [process_] } });

describe('hrun top', () => {
  it('shows what ps -ef does', async () => {
    const { stdout } = await top();
    const [header = '', row = ''] = stdout.split('\n');
    expect(header.split(/\s+/)).to.deep.equal(['UID', 'PID', 'PPID', 'C', 'STIME', 'TTY', 'TIME', 'CMD']);
    expect(row).to.match(/^nobody\s+7\s+1\s+12\s+\d\d:\d\d\s+pts\/0\s+00:01:05\s+\/bin\/sleep 10 0$/);
    expect(header.indexOf('PID')).to.equal(20);
    expect((await top('-ef')).stdout).to.equal(stdout);
  });

  it('takes ps’s columns, with own headers', async () => {
    const { stdout } = await top('-eo', 'pid,comm,%cpu,rss,etime=SINCE', '-o', 'uid');
    const [header = '', row = ''] = stdout.split('\n');
    expect(header.split(/\s+/)).to.deep.equal(['PID', 'COMMAND', '%CPU', 'RSS', 'SINCE', 'UID']);
    expect(row.split(/\s+/)).to.deep.equal(['7', 'sleep', '12.3', '2048', '01:02:03', '65534']);
    expect((await top('o', 'pid')).stdout).to.equal('PID\n7\n');
  });

  for (const [options, message] of [
    [['aux'], 'the option "aux" of ps is not supported'],
    [['-o', 'pid,colour'], 'unknown column of ps: "colour"'],
    [['-o', 'comm'], "couldn't find the PID field"],
  ] as const) {
    it(`refuses ${options.join(' ')}`, async () => {
      const { code, stderr } = await top(...options);
      expect(code).to.equal(1);
      expect(stderr).to.contain(message);
    });
  }
});
