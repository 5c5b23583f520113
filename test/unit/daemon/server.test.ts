import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect } from 'chai';
import { isHrunError } from '../../../src/base/errors.ts';
import { silentLog } from '../../../src/base/log.ts';
import type { Session } from '../../../src/cli/session.ts';
import { type Commands, serveFrontDoors } from '../../../src/daemon/server.ts';
import type { AttachRecord } from '../../../src/runtime/attachRecord.ts';
import { FakeFrontDoor, frontFrame, resumeFrame, u32, u64 } from '../../helpers/frontDoor.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

const record: AttachRecord = {
  containerId: 'a'.repeat(64),
  processId: 'init',
  stdoutBase: 3n,
  stderrBase: 0n,
  stdoutFrom: 0n,
  stderrFrom: 0n,
  stdinBase: 0n,
  ownsOutput: true,
  terminal: false,
  openStdin: false,
  signalProxy: true,
  detachKeys: [],
  timing: false,
};

async function startServer(run: Commands['run'], resume?: Commands['resume'], uid = process.getuid?.() ?? 0) {
  await using stack = new AsyncDisposableStack();
  const directory = stack.use(await temporaryDirectory());
  const path = join(directory.path, 'hrund.sock');
  const sessionsDir = join(directory.path, 'sessions');
  await mkdir(sessionsDir, { recursive: true });
  const commands = { run, resume: resume ?? (async () => 99) };
  const server = await serveFrontDoors({ listen: { path }, uid, sessionsDir, log: silentLog, commands });
  stack.use(server);
  const owned = stack.move();
  return {
    path,
    sessionsDir,
    server,
    dir: directory.path,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const text = (session: Session, words: string) => session.stdout.write(Buffer.from(words), session.signal);

describe('the front door server', () => {
  it('runs a command and tells its output and exit code', async () => {
    await using server = await startServer(async (session) => {
      await text(session, `${session.argv.join(' ')} in ${session.cwd} with ${session.environment.get('A')}`);
      session.stderr.writable.write('oh\n');
      return 7;
    });
    const front = FakeFrontDoor.call(server.path, { argv: ['ps', '-a'], environment: ['A=1'], cwd: '/tmp' });
    expect(await front.outcome).to.deep.equal({ code: 7 });
    expect(front.accepted).to.equal(process.pid);
    expect(front.stdout.toString()).to.equal('ps -a in /tmp with 1');
    expect(front.stderr.toString()).to.equal('oh\n');
  });

  it('keeps output whole and at most 256 KiB ahead of what is written', async () => {
    const content = randomBytes(1_500_000);
    await using server = await startServer(async (session) => {
      await session.stdout.write(content, session.signal);
      return 0;
    });
    const front = FakeFrontDoor.call(server.path, { argv: [], holdWritten: true });
    for (;;) {
      const due = Math.min(front.stdout.length + 256 * 1024, content.length);
      await front.until(() => front.stdout.length > due - 64 * 1024);
      expect(front.stdout.length).to.be.at.most(due);
      if (front.stdout.length === content.length) break;
      front.release();
    }
    expect(await front.outcome).to.deep.equal({ code: 0 });
    expect(front.stdout.equals(content)).to.equal(true);
  });

  it('reads stdin only when it is wanted, inside the window, and whole', async () => {
    const content = randomBytes(400_000);
    const seen: Buffer[] = [];
    await using server = await startServer(async (session) => {
      for await (const { offset, bytes } of session.stdin.read(0n, session.signal)) {
        seen.push(Buffer.from(bytes));
        session.stdin.accept(offset + BigInt(bytes.length));
      }
      return 0;
    });
    const front = FakeFrontDoor.call(server.path, { argv: [], stdin: content });
    expect(await front.outcome).to.deep.equal({ code: 0 });
    expect(Buffer.concat(seen).equals(content)).to.equal(true);
  });

  it('does not open stdin for a command that does not read it', async () => {
    await using server = await startServer(async () => 0);
    const front = FakeFrontDoor.call(server.path, { argv: [], stdin: 'x' });
    await front.outcome;
    expect(front.stdinLimit).to.equal(0n);
  });

  it('tells when the workload reads no more', async () => {
    await using server = await startServer(async (session) => {
      for await (const _ of session.stdin.read(0n, session.signal)) break;
      session.stdin.close();
      return 0;
    });
    const front = FakeFrontDoor.call(server.path, { argv: [], stdin: randomBytes(200_000) });
    expect(await front.outcome).to.deep.equal({ code: 0 });
    expect(front.stdinClosed).to.equal(true);
  });

  it('drops what is written to a descriptor that is gone', async () => {
    let closed = false;
    await using server = await startServer(async (session) => {
      for (let i = 0; i < 100; i++) await session.stdout.write(Buffer.alloc(65536), session.signal);
      closed = session.stdout.closed.aborted;
      await session.stdout.writtenBeyond(session.stdout.offset - 1n, session.signal);
      return 0;
    });
    const front = FakeFrontDoor.call(server.path, { argv: [], holdWritten: true });
    await front.until(() => front.stdout.length > 0);
    front.send(0x0a, Buffer.of(1));
    expect(await front.outcome).to.deep.equal({ code: 0 });
    expect(closed).to.equal(true);
  });

  it('tells what is written', async () => {
    const steps: bigint[] = [];
    await using server = await startServer(async (session) => {
      await text(session, 'hello');
      steps.push(session.stdout.written);
      steps.push(await session.stdout.writtenBeyond(0n, session.signal));
      return 0;
    });
    await FakeFrontDoor.call(server.path, { argv: [] }).outcome;
    expect(steps).to.deep.equal([0n, 5n]);
  });

  it('passes on window size, signals and raw mode', async () => {
    await using server = await startServer(async (session) => {
      using _raw = session.rawTerminal();
      const events: string[] = [];
      const done = Promise.withResolvers<void>();
      using _resize = session.onResize(({ rows, columns }) => events.push(`${rows}x${columns}`));
      using _signal = session.onSignal((signal) => {
        events.push(`signal ${signal}`);
        done.resolve();
      });
      await done.promise;
      const { rows, columns } = session.terminalSize ?? { rows: 0, columns: 0 };
      await text(session, `${events.join(', ')}; now ${rows}x${columns}`);
      return 0;
    });
    const front = FakeFrontDoor.call(server.path, { argv: [], tty: [true, true, true], size: [24, 80] });
    await front.until(() => front.forwardsSignals && front.raw);
    front.send(0x05, Buffer.of(0, 0, 0, 0));
    front.send(0x05, Buffer.of(30, 0, 100, 0));
    front.send(0x06, u32(2));
    expect(await front.outcome).to.deep.equal({ code: 0 });
    expect(front.stdout.toString()).to.equal('30x100, signal 2; now 30x100');
    expect(front.raw).to.equal(false);
  });

  it('ends a command whose front door goes away', async () => {
    const ended = Promise.withResolvers<unknown>();
    await using server = await startServer(async (session) => {
      await text(session, 'x');
      await session.stdout.writtenBeyond(5n, session.signal).catch(ended.resolve);
      return 0;
    });
    const front = FakeFrontDoor.call(server.path, { argv: [] });
    await front.until(() => front.stdout.length === 1);
    front.socket.destroy();
    expect(isHrunError(await ended.promise, 'CANCELLED')).to.equal(true);
  });

  it('answers 125 for a command that breaks, and lives on', async () => {
    await using server = await startServer(async ({ argv }) => {
      if (argv[0] === 'break') throw new Error('boom');
      return 0;
    });
    const broken = FakeFrontDoor.call(server.path, { argv: ['break'] });
    expect(await broken.outcome).to.deep.equal({ code: 125 });
    expect(broken.stderr.toString()).to.equal('hrun: boom\n');
    expect(await FakeFrontDoor.call(server.path, { argv: [] }).outcome).to.deep.equal({ code: 0 });
  });

  it('refuses another user', async () => {
    await using server = await startServer(async () => 0, undefined, 4711);
    const front = FakeFrontDoor.call(server.path, { argv: [] });
    expect(await front.outcome)
      .to.have.property('refused')
      .that.includes('serves uid 4711 only');
  });

  it('refuses what is no HELLO and drops a connection that breaks the protocol', async () => {
    await using server = await startServer(async (session) => {
      await session.stdout.writtenBeyond(0n, session.signal);
      return 0;
    });
    const odd = new FakeFrontDoor(server.path, frontFrame(0x05, Buffer.of(1, 0, 1, 0)), { argv: [] });
    expect(await odd.outcome)
      .to.have.property('refused')
      .that.includes('HELLO or RESUME');
    const long = connect(server.path, () => long.write(u32(0xffffffff)));
    long.write(Buffer.of(1));
    long.resume();
    await once(long, 'close');
    const rude = FakeFrontDoor.call(server.path, { argv: [] });
    await rude.until(() => rude.accepted !== undefined);
    rude.send(0x07, Buffer.of(1), u64(999));
    expect(await rude.outcome).to.deep.equal({ lost: true });
  });

  it('lends hands: reads, writes, renames, and closes what it opened', async () => {
    await using directory = await temporaryDirectory();
    await writeFile(join(directory.path, 'in'), 'content');
    await using server = await startServer(async ({ files, signal, stdout }) => {
      const content = await files.readFile('in', 100, signal);
      await using out = await files.openWrite('out.tmp', { exclusive: true, mode: 0o600 }, signal);
      await out.write(Buffer.alloc(1_200_000, content), signal);
      await out.close(signal);
      await files.rename('out.tmp', 'out', signal);
      const { sizeBytes } = await files.stat('out', { followLink: true }, signal);
      await stdout.write(Buffer.from(`${sizeBytes}`), signal);
      return 0;
    });
    const front = FakeFrontDoor.call(server.path, { argv: [], cwd: directory.path });
    expect(await front.outcome).to.deep.equal({ code: 0 });
    expect(front.stdout.toString()).to.equal('1200000');
    expect(front.openHandles).to.equal(0);
    expect((await readFile(join(directory.path, 'out'), 'utf8')).startsWith('contentcontent')).to.equal(true);
  });

  it('names the path when a hand fails', async () => {
    const failures: unknown[] = [];
    await using server = await startServer(async ({ files, signal }) => {
      await files.readFile('/no/such', 10, signal).catch((error: unknown) => failures.push(error));
      await files.readFile('/proc/self/status', 10, signal).catch((error: unknown) => failures.push(error));
      return 0;
    });
    await FakeFrontDoor.call(server.path, { argv: [] }).outcome;
    expect(failures.map(String)).to.deep.equal([
      'HrunError: /no/such: no such file or directory',
      'HrunError: /proc/self/status is larger than 10 bytes',
    ]);
    expect((failures[0] as Error).cause).to.include({ code: 'ENOENT' });
  });

  it('lets a front door come back after a lost connection, with what it has', async () => {
    const resumed: unknown[] = [];
    await using server = await startServer(
      async (session) => {
        await text(session, 'abc');
        await session.makeResumable(record);
        await session.stdout.writtenBeyond(99n, session.signal);
        return 0;
      },
      async (session, back, received) => {
        resumed.push(back, received);
        await text(session, 'def');
        return 5;
      },
    );
    const first = FakeFrontDoor.call(server.path, { argv: [] });
    await first.until(() => first.token !== undefined && first.stdout.length === 3);
    first.socket.destroy();
    await first.outcome;
    const token = first.token ?? Buffer.alloc(0);
    const second = new FakeFrontDoor(server.path, resumeFrame(token, 3, 0), { argv: [] });
    second.stdout = Buffer.from('abc');
    expect(await second.outcome).to.deep.equal({ code: 5 });
    expect(second.stdout.toString()).to.equal('abcdef');
    expect(resumed).to.deep.equal([record, { stdout: 3n, stderr: 0n }]);
  });

  it('tells the exit code again until it is acknowledged, then forgets the command', async () => {
    await using server = await startServer(async (session) => {
      await session.makeResumable(record);
      return 42;
    });
    const first = FakeFrontDoor.call(server.path, { argv: [] });
    first.acknowledgeExit = false;
    expect(await first.outcome).to.deep.equal({ code: 42 });
    first.socket.destroy();
    const token = first.token ?? Buffer.alloc(0);
    const second = new FakeFrontDoor(server.path, resumeFrame(token, 0, 0), { argv: [] });
    expect(await second.outcome).to.deep.equal({ code: 42 });
    await once(second.socket, 'close');
    expect(await readdir(server.sessionsDir)).to.deep.equal([]);
    const third = new FakeFrontDoor(server.path, resumeFrame(token, 0, 0), { argv: [] });
    expect(await third.outcome).to.have.property('refused');
  });

  it('does not keep a token that nobody was given', async () => {
    await using server = await startServer(async () => 0);
    const front = new FakeFrontDoor(server.path, resumeFrame(randomBytes(32), 0, 0), { argv: [] });
    expect(await front.outcome).to.deep.equal({
      refused: 'hrun: the daemon does not know this command any more',
    });
  });

  it('ends commands at work when it is disposed', async () => {
    const reasons: unknown[] = [];
    const server = await startServer(async (session) => {
      await session.stdout.writtenBeyond(0n, session.signal).catch((error: unknown) => reasons.push(error));
      return 0;
    });
    const front = FakeFrontDoor.call(server.path, { argv: [] });
    await front.until(() => front.accepted !== undefined);
    await server[Symbol.asyncDispose]();
    expect(await front.outcome).to.deep.equal({ lost: true });
    expect(reasons.map(String)).to.deep.equal(['HrunError: the daemon was stopped']);
  });
});
