import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { OutputLog } from '../../../src/runtime/outputLog.ts';
import { readLogs } from '../../../src/runtime/readLogs.ts';

const never = new AbortController().signal;
const secondNs = 1_000_000_000n;

describe('reading logs', () => {
  let directory: string;
  let log: OutputLog;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'hrun-logs-'));
    log = await OutputLog.open(join(directory, 'output.log'), { maxBytes: 1024 * 1024, maxFiles: 2 });
    await log.append('stdout', 0n, Buffer.from('1\n2\n'), secondNs);
    await log.append('stderr', 0n, Buffer.from('a\nb'), 2n * secondNs);
    await log.append('stdout', 4n, Buffer.from('3\n'), 3n * secondNs);
    await log.append('stderr', 3n, Buffer.from('c\n'), 4n * secondNs);
    log.end();
  });
  afterEach(async () => {
    await log[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  async function read(options: {
    follow?: boolean;
    tailLines?: number;
    sinceMs?: number;
    untilMs?: number;
  }): Promise<string> {
    let text = '';
    for await (const { bytes } of readLogs(log, { follow: false, ...options }, never))
      text += Buffer.from(bytes);
    return text;
  }

  it('shows everything', async () => expect(await read({})).to.equal('1\n2\na\nb3\nc\n'));
  it('shows the last lines of both streams together', async () => {
    expect(await read({ tailLines: 1 })).to.equal('3\nc\n');
    expect(await read({ tailLines: 3 })).to.equal('a\nb3\nc\n');
  });
  it('shows nothing for zero lines, and all for more than there are', async () => {
    expect(await read({ tailLines: 0 })).to.equal('');
    expect(await read({ tailLines: 99 })).to.equal('1\n2\na\nb3\nc\n');
  });
  it('ends following at the time asked for, and does not begin when that is over', async () => {
    const untilMs = Date.now() + 100;
    await using open = await OutputLog.open(join(directory, 'open.log'), { maxBytes: 1024, maxFiles: 2 });
    await open.append('stdout', 0n, Buffer.from('line\n'), secondNs);
    const seen: string[] = [];
    for await (const { bytes } of readLogs(open, { follow: true, untilMs }, never))
      seen.push(Buffer.from(bytes).toString());
    expect(seen).to.deep.equal(['line\n']);
    expect(Date.now()).to.be.at.least(untilMs - 1);
    expect(await read({ follow: true, untilMs: 2000 })).to.equal('1\n2\na\nb');
  });
  it('keeps to the times asked for', async () => {
    expect(await read({ sinceMs: 2000 })).to.equal('a\nb3\nc\n');
    expect(await read({ untilMs: 2000 })).to.equal('1\n2\na\nb');
  });

  it('shows what came before a moment also after the clock was set back', async () => {
    const path = join(directory, 'back.log');
    await using back = await OutputLog.open(path, { maxBytes: 1024 * 1024, maxFiles: 2 });
    await back.append('stdout', 0n, Buffer.from('late\n'), 9n * secondNs);
    await back.append('stdout', 5n, Buffer.from('early\n'), 2n * secondNs);
    let text = '';
    for await (const { bytes } of readLogs(back, { follow: false, untilMs: 3000 }, never))
      text += Buffer.from(bytes);
    expect(text).to.equal('early\n');
  });
});
