import { expect } from 'chai';
import fc from 'fast-check';
import { parseReport } from '../../../../src/vmm/jail/launch.ts';
import { parseLdd } from '../../../../src/vmm/jail/libraries.ts';

describe('the report of the launcher', () => {
  it('tells the pid, and what was impossible', () => {
    const report = parseReport('weaker network no network namespace: Operation not permitted\npid 4711\n');
    expect(report).to.deep.equal({
      pid: 4711,
      busy: false,
      failed: undefined,
      missing: [{ step: 'network', why: 'no network namespace: Operation not permitted' }],
    });
    expect(parseReport('pid 4711\nbusy\n').busy).to.equal(true);
    expect(parseReport('pid 4711\nfailed root cannot mount /x: no\n').failed).to.equal(
      'root cannot mount /x: no',
    );
  });

  it('is no process when it tells none', () => {
    for (const text of ['', 'pid\n', 'pid -1\n', 'pid 1e99\n', 'pid x\n', 'nonsense']) {
      expect(parseReport(text).pid, text).to.equal(undefined);
    }
    fc.assert(fc.property(fc.string(), (text) => void parseReport(text)));
  });
});

describe('the libraries of a program', () => {
  it('are read from what ldd says', () => {
    const said = [
      '\tlinux-vdso.so.1 (0x00007f0aef899000)',
      '\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0aef69e000)',
      '\t/lib64/ld-linux-x86-64.so.2 (0x00007f0aef89b000)',
      '',
    ].join('\n');
    expect(parseLdd(said, '/q')).to.deep.equal([
      '/lib/x86_64-linux-gnu/libc.so.6',
      '/lib64/ld-linux-x86-64.so.2',
    ]);
    expect(parseLdd('\tstatically linked\n', '/q')).to.deep.equal([]);
  });

  it('are all needed', () => {
    expect(() => parseLdd('\tlibx.so.1 => not found\n', '/q')).to.throw('/q lacks a library: libx.so.1');
  });
});
