import { appendFile, mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { followOutput } from '../../../src/runtime/followOutput.ts';
import { outputLogFiles } from '../../../src/runtime/logFiles.ts';
import type { OutputPosition } from '../../../src/runtime/logRecord.ts';
import { OutputLog } from '../../../src/runtime/outputLog.ts';

const mebibyte = 1024 * 1024;
const start: OutputPosition = { stdout: 0n, stderr: 0n };
const never = new AbortController().signal;

describe('the output log', () => {
  let directory: string;
  let path: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'hrun-log-'));
    path = join(directory, 'output.log');
  });
  afterEach(() => rm(directory, { recursive: true }));

  async function read(log: OutputLog, from = start, follow = false): Promise<string> {
    let text = '';
    for await (const record of followOutput(log, { from, follow, holdWriter: false }, never)) {
      text += `${record.stream === 'stdout' ? '' : '!'}${Buffer.from(record.data)}`;
    }
    return text;
  }

  it('gives back both streams in the order in which they were written', async () => {
    await using log = await OutputLog.open(path, { maxBytes: mebibyte, maxFiles: 2 });
    await log.append('stdout', 0n, Buffer.from('one'), 1n);
    await log.append('stderr', 0n, Buffer.from('two'), 2n);
    await log.append('stdout', 3n, Buffer.from('three'), 3n);
    expect(await read(log)).to.equal('one!twothree');
    expect(await read(log, { stdout: 4n, stderr: 2n })).to.equal('!ohree');
  });

  it('drops bytes it has and refuses a gap', async () => {
    await using log = await OutputLog.open(path, { maxBytes: mebibyte, maxFiles: 2 });
    await log.append('stdout', 0n, Buffer.from('abc'), 1n);
    await log.append('stdout', 1n, Buffer.from('bcd'), 2n);
    expect(await read(log)).to.equal('abcd');
    const error = await log.append('stdout', 9n, Buffer.from('x'), 3n).catch((e: Error) => e);
    expect(error).to.be.instanceOf(Error).with.property('code', 'AGENT_PROTOCOL');
  });

  it('cuts off a torn record and goes on where the whole ones end', async () => {
    {
      await using log = await OutputLog.open(path, { maxBytes: mebibyte, maxFiles: 2 });
      await log.append('stderr', 0n, Buffer.from('err'), 1n);
      await log.append('stdout', 0n, Buffer.from('whole'), 1n);
      await log.append('stdout', 5n, Buffer.from('torn'), 2n);
    }
    await truncate(path, (await stat(path)).size - 2);
    await using log = await OutputLog.open(path, { maxBytes: mebibyte, maxFiles: 2 });
    expect(log.lengths).to.deep.equal({ stdout: 5n, stderr: 3n });
    await log.append('stdout', 5n, Buffer.from(' again'), 3n);
    expect(await read(log)).to.equal('!errwhole again');
  });

  it('cuts off garbage after the last record', async () => {
    {
      await using log = await OutputLog.open(path, { maxBytes: mebibyte, maxFiles: 2 });
      await log.append('stdout', 0n, Buffer.from('x'), 1n);
    }
    await appendFile(path, Buffer.alloc(100, 0xff));
    await using log = await OutputLog.open(path, { maxBytes: mebibyte, maxFiles: 2 });
    expect(log.lengths.stdout).to.equal(1n);
    expect(await read(log)).to.equal('x');
  });

  it('keeps its place over a rotation, when opened again too', async () => {
    {
      await using log = await OutputLog.open(path, { maxBytes: 100, maxFiles: 2 });
      await log.append('stderr', 0n, Buffer.from('e'), 1n);
      for (let i = 0; i < 5; i++) await log.append('stdout', BigInt(i * 40), Buffer.alloc(40, 97 + i), 1n);
      expect(log.generation).to.be.greaterThan(1);
    }
    await using log = await OutputLog.open(path, { maxBytes: 100, maxFiles: 2 });
    expect(log.lengths).to.deep.equal({ stdout: 200n, stderr: 1n });
    await log.append('stdout', 200n, Buffer.from('z'), 1n);
  });

  it('a follower sees what comes later, over rotations, and ends with the log', async () => {
    await using log = await OutputLog.open(path, { maxBytes: 200, maxFiles: 2 });
    const whole = (async () => {
      let text = '';
      const options = { from: start, follow: true, holdWriter: true };
      for await (const record of followOutput(log, options, never)) text += Buffer.from(record.data);
      return text;
    })();
    let expected = '';
    for (let i = 0; i < 50; i++) {
      const chunk = `${i},`;
      await log.append('stdout', BigInt(expected.length), Buffer.from(chunk), 1n);
      expected += chunk;
      await log.whenCaughtUp(0, never);
    }
    log.end();
    expect(await whole).to.equal(expected);
  });

  it('a reader that stops reading holds the writer back, until it goes away', async () => {
    await using log = await OutputLog.open(path, { maxBytes: mebibyte, maxFiles: 2 });
    const reader = followOutput(log, { from: start, follow: true, holdWriter: true }, never);
    const first = reader.next();
    await log.append('stdout', 0n, Buffer.alloc(1000), 1n);
    await first;
    let caughtUp = false;
    const waiting = log.whenCaughtUp(100, never).then(() => {
      caughtUp = true;
    });
    await log.append('stdout', 1000n, Buffer.alloc(10), 1n);
    expect(caughtUp).to.equal(false);
    await reader.return(undefined);
    await waiting;
  });

  it('lets a reader that has everything rest', async () => {
    await using log = await OutputLog.open(path, { maxBytes: mebibyte, maxFiles: 2 });
    await log.append('stdout', 0n, Buffer.from('all'), 1n);
    const readers = [1, 2].map(() =>
      followOutput(log, { from: start, follow: true, holdWriter: true }, never),
    );
    const more: Promise<unknown>[] = [];
    for (const reader of readers) {
      await reader.next();
      more.push(reader.next());
    }
    // as many turns as it takes either to come to rest
    for (let turn = 0; turn < 50; turn += 1) await stat(path);
    const { changes } = log;
    for (let turn = 0; turn < 50; turn += 1) await stat(path);
    expect(log.changes).to.equal(changes);
    log.end();
    await Promise.all(more);
  });

  it('stops waiting when told to', async () => {
    await using log = await OutputLog.open(path, { maxBytes: mebibyte, maxFiles: 2 });
    const stop = new AbortController();
    const reader = followOutput(log, { from: start, follow: true, holdWriter: false }, stop.signal);
    const next = reader.next().catch((error: unknown) => error);
    stop.abort(new Error('enough'));
    expect(await next)
      .to.be.instanceOf(Error)
      .with.property('message', 'enough');
  });

  it('keeps as many files as it may, and shows them oldest first', async () => {
    for (const maxFiles of [1, 2, 4]) {
      const own = join(directory, `log${maxFiles}`);
      await using log = await OutputLog.open(own, { maxBytes: 100, maxFiles });
      for (let i = 0; i < 20; i++) await log.append('stdout', BigInt(i * 40), Buffer.alloc(40, 97 + i), 1n);
      // one record of 72 bytes in each
      const names = Array.from({ length: maxFiles }, (_, age) => (age === 0 ? own : `${own}.${age}`));
      expect((await outputLogFiles(own)).toReversed()).to.deep.equal(names);
      const shown = Array.from({ length: maxFiles }, (_, age) =>
        String.fromCharCode(97 + 19 - age).repeat(40),
      );
      expect(await read(log)).to.equal(shown.toReversed().join(''));
      await log[Symbol.asyncDispose]();
      await using again = await OutputLog.open(own, { maxBytes: 100, maxFiles });
      expect(again.lengths.stdout).to.equal(800n);
    }
  });

  it('rotates nothing away that an attached reader has not seen', async () => {
    await using log = await OutputLog.open(path, { maxBytes: 100, maxFiles: 1 });
    const reader = followOutput(log, { from: start, follow: true, holdWriter: true }, never);
    const seen: string[] = [];
    const reading = (async () => {
      for await (const { data } of reader) {
        seen.push(String(Buffer.from(data)));
        await new Promise(setImmediate);
      }
    })();
    for (let i = 0; i < 50; i++) await log.append('stdout', BigInt(i * 40), Buffer.alloc(40, 65 + i), 1n);
    log.end();
    await reading;
    expect(seen).to.have.length(50);
  });

  it('does not take a damaged header for a record', async () => {
    {
      await using log = await OutputLog.open(path, { maxBytes: mebibyte, maxFiles: 2 });
      await log.append('stdout', 0n, Buffer.from('good'), 1n);
      await log.append('stdout', 4n, Buffer.from('bad'), 1n);
    }
    const bytes = await readFile(path);
    bytes.writeBigUInt64LE(1_000_000n, 36 + 8);
    await writeFile(path, bytes);
    await using log = await OutputLog.open(path, { maxBytes: mebibyte, maxFiles: 2 });
    expect(log.lengths.stdout).to.equal(4n);
  });

  it('reads what was written before records had a check', async () => {
    {
      await using log = await OutputLog.open(path, { maxBytes: mebibyte, maxFiles: 2 });
      await log.append('stdout', 0n, Buffer.from('old'), 1n);
    }
    const bytes = await readFile(path);
    bytes.writeUIntLE(0, 1, 3);
    await writeFile(path, bytes);
    await using log = await OutputLog.open(path, { maxBytes: mebibyte, maxFiles: 2 });
    expect(await read(log)).to.equal('old');
  });
});
