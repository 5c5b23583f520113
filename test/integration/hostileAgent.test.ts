import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import {
  answering,
  filesOf,
  flood,
  greeting,
  type Hostility,
  insteadOfHttp2,
  peakBytes,
  saying,
  takeOver,
} from '../helpers/hostileAgent.ts';
import { type HrunHost, newHrunHost, resultOf } from '../helpers/hrunHost.ts';

const mebibyte = 2 ** 20;
/** docs/security.md: what one guest can make the daemon hold. */
const boundPerGuestBytes = 8 * mebibyte;
const idleDaemonBytes = 128 * mebibyte;

const chunk = (offset: bigint, data: Buffer, stream: 'stdout' | 'stderr' = 'stdout') => ({
  case: stream,
  value: { offset, data },
});
const exit = (code: number, more: object = {}) => ({
  case: 'exit',
  value: { code, signal: 0, stdoutLength: 0n, stderrLength: 0n, ...more },
});
const accepted = { case: 'stdinAccepted', value: { offset: 0n, closed: false } };

/** An HTTP/2 frame header (RFC 9113, 4.1) and its payload. */
function http2Frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header.writeUInt8(type, 3);
  header.writeUInt8(flags, 4);
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

const settings = http2Frame(4, 0, 0, Buffer.alloc(0));
const ping = Buffer.concat(Array.from({ length: 1000 }, () => http2Frame(6, 0, 0, Buffer.alloc(8))));
const emptyData = Buffer.concat(Array.from({ length: 1000 }, () => http2Frame(0, 0, 1, Buffer.alloc(0))));
const endlessHeaders = http2Frame(9, 0, 1, Buffer.alloc(16_384, 0x82));

/** Each takes a running container over; its microVM is killed, and the reason is this. */
const hostilities: Readonly<Record<string, readonly [Hostility, RegExp]>> = {
  'noise without end': [(port) => flood(port, randomBytes(64 * 1024)), /bytes of no use/],
  'no word at all': [() => {}, /did not answer within 4000 ms/],
  'one byte now and then': [
    insteadOfHttp2(async (stream) => {
      for (const byte of settings) {
        if (stream.destroyed) return;
        stream.write(Buffer.of(byte));
        await sleep(800);
      }
    }),
    /did not answer within 4000 ms/,
  ],
  'noise where HTTP/2 belongs': [
    insteadOfHttp2((stream) => flood(stream, randomBytes(64 * 1024))),
    /lost its connection 50 times/,
  ],
  'noise inside HTTP/2': [
    insteadOfHttp2((stream) => {
      stream.write(settings);
      flood(stream, randomBytes(64 * 1024));
    }),
    /internal client error: Protocol error|lost its connection 50 times/,
  ],
  'pings without end': [
    insteadOfHttp2((stream) => {
      stream.write(settings);
      flood(stream, ping);
    }),
    /internal client error: Flooding was detected/,
  ],
  'empty frames without end': [
    insteadOfHttp2((stream) => {
      stream.write(settings);
      flood(stream, emptyData);
    }),
    /internal client error: Protocol error|lost its connection 50 times/,
  ],
  'headers without end': [
    insteadOfHttp2((stream) => {
      stream.write(Buffer.concat([settings, http2Frame(1, 0, 1, Buffer.of(0x88))]));
      flood(stream, endlessHeaders);
    }),
    /internal client error: Protocol error|lost its connection 50 times/,
  ],
  'a connection that ends at once': [(port) => port.destroy(), /lost its connection 50 times/],
  'an agent that ends each attachment': [
    answering({ attach: (call) => call.end() }),
    /lost its connection 50 times/,
  ],
  'a greeting of 8 MiB': [
    answering({
      hello: (_call, answer) => answer(null, { ...greeting, agentVersion: 'x'.repeat(8 * mebibyte) }),
    }),
    /larger than max|more than|message/i,
  ],
  'a greeting that unpacks to 64 MiB': [
    answering({
      hello: (call, answer) => {
        call.metadata.set('grpc-internal-encoding-request', 'gzip');
        call.sendMetadata?.(call.metadata);
        answer(null, { ...greeting, agentVersion: 'x'.repeat(64 * mebibyte) });
      },
    }),
    /larger than max|more than|message/i,
  ],
  'another protocol': [
    answering({ hello: (_call, answer) => answer(null, { ...greeting, protocol: 7 }) }),
    /speaks protocol 7/,
  ],
  'a chunk of 3 MiB': [saying(() => [accepted, chunk(0n, Buffer.alloc(3 * mebibyte))]), /bytes in one chunk/],
  'output with a gap': [saying(() => [accepted, chunk(1_000_000n, Buffer.from('x'))]), /jumps from byte 0/],
  'output from the end of all numbers': [
    saying(() => [accepted, chunk(2n ** 64n - 1n, Buffer.from('x'))]),
    /jumps from byte 0/,
  ],
  'an exit before the output': [saying(() => [exit(0, { stdoutLength: 5n })]), /before all output/],
  'an exit code of 256': [saying(() => [exit(256)]), /exit code of 256/],
  'a signal of 4 billion': [saying(() => [exit(0, { signal: 4_000_000_000 })]), /exit code of 0, signal/],
  'input that was never sent': [
    saying(() => [accepted, { case: 'stdinAccepted', value: { offset: 2n ** 63n, closed: false } }]),
    /was not sent/,
  ],
  'empty messages': [answering({ attach: (call) => call.write({}) }), /empty output message/],
};

describe('an agent that was taken over', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost({ config: { poolReady: 0, agentTimeoutMs: 4000, logMaxSize: '1m' } });
  });
  after(() => host[Symbol.asyncDispose]());

  const stateOf = async (container: string): Promise<{ Status: string; ExitCode: number; Error: string }> =>
    JSON.parse(await host.ok(['inspect', '-f', '{{json .State}}', container]));

  async function restartDaemon(): Promise<void> {
    const pid = await host.daemonPid();
    process.kill(pid, 'SIGKILL');
    while ((await host.daemonPid().catch(() => pid)) === pid) await sleep(20);
  }

  it('is killed with the reason, whatever it says, and costs no other container anything', async function () {
    this.timeout(400_000);
    await using undo = new AsyncDisposableStack();
    await host.ok(['run', '-d', '--name', 'other', 'busybox', 'sleep', '10000']);
    const names: string[] = [];
    for (const [index, [hostility]] of Object.values(hostilities).entries()) {
      const name = `h${index}`;
      names.push(name);
      await host.ok(['run', '-d', '-m', '64m', '--name', name, 'busybox', 'sleep', '10000']);
      undo.use(await takeOver(host, name, hostility));
    }
    const attached = host.start(['attach', names.at(-1) ?? ''], { stdio: ['ignore', 'pipe', 'pipe'] });
    const told = resultOf(attached);
    // from when it has a record it waits for the next daemon
    while ((await readdir(join(host.run, 'sessions'))).length === 0) await sleep(20);
    await restartDaemon();
    const waiting = Promise.all(names.map(async (name) => await host.ok(['wait', name])));
    let answers = 0;
    const serving = (async () => {
      for (let done = false; !done; answers += 1) {
        expect(await host.ok(['exec', 'other', 'echo', 'served'])).to.equal('served');
        done = await Promise.race([waiting.then(() => true), sleep(0, false)]);
      }
    })();
    expect(new Set(await waiting)).to.deep.equal(new Set(['137']));
    await serving;
    expect(answers).to.be.greaterThan(1);
    const unexpected: string[] = [];
    for (const [index, [what, [, reason]]] of Object.entries(hostilities).entries()) {
      const { Status, ExitCode, Error: said } = await stateOf(`h${index}`);
      expect({ Status, ExitCode }, what).to.deep.equal({ Status: 'exited', ExitCode: 137 });
      if (!reason.test(said)) unexpected.push(`${what}: ${said}`);
    }
    expect(unexpected).to.deep.equal([]);
    expect((await told).code).to.equal(137);
    expect(await stateOf('other')).to.include({ Status: 'running' });
    const peak = await peakBytes(await host.daemonPid());
    expect(peak).to.be.lessThan(idleDaemonBytes + names.length * boundPerGuestBytes);
    await host.ok(['rm', '-f', 'other', ...names]);
    const emulators = (await host.processes()).filter(({ command }) => /qemu/.test(command));
    expect(emulators).to.deep.equal([]);
  });

  it('is believed of its own container only, and what it says twice counts once', async () => {
    await using undo = new AsyncDisposableStack();
    const [other = '', liar = ''] = ['true-one', 'liar'];
    for (const name of [other, liar])
      await host.ok(['run', '-d', '--name', name, 'busybox', 'sleep', '10000']);
    const otherId = await host.ok(['inspect', '-f', '{{.Id}}', other]);
    const replayed = Array.from({ length: 5000 }, () => chunk(0n, Buffer.from('abc')));
    const spoken: object[] = [];
    undo.use(
      await takeOver(
        host,
        liar,
        saying((open) => {
          spoken.push(open);
          // whatever id it calls itself by: an exit is that of the process that was attached to
          const exitOfOther = { ...exit(5, { stdoutLength: 3n }), containerId: otherId };
          return [accepted, ...replayed, exitOfOther, exit(9), chunk(3n, Buffer.from('after the end'))];
        }),
      ),
    );
    await restartDaemon();
    expect(await host.ok(['wait', liar])).to.equal('5');
    expect(await host.ok(['logs', liar])).to.equal('abc');
    expect(spoken).to.have.length(1);
    expect(await stateOf(other)).to.include({ Status: 'running' });
    expect(await host.ok(['exec', other, 'echo', 'well'])).to.equal('well');
    await host.ok(['rm', '-f', other, liar]);
  });

  it('is stopped and removed although it answers nothing more', async () => {
    await using undo = new AsyncDisposableStack();
    for (const name of ['deaf', 'mute']) {
      await host.ok(['run', '-d', '--name', name, 'busybox', 'sleep', '10000']);
      undo.use(
        await takeOver(
          host,
          name,
          answering({ attach: () => {}, signal: () => {}, deleteContainer: () => {} }),
        ),
      );
    }
    await restartDaemon();
    await host.ok(['stop', '-t', '1', 'deaf']);
    expect(await stateOf('deaf')).to.include({ Status: 'exited', ExitCode: 137 });
    await host.ok(['rm', '-f', 'mute']);
    await host.ok(['rm', 'deaf']);
  });

  it('cannot fill memory or disk by talking', async () => {
    const flooding = 'yes stdout & yes stderr >&2 & wait';
    await host.ok(['run', '-d', '--name', 'loud', 'busybox', 'sh', '-c', flooding]);
    const id = await host.ok(['inspect', '-f', '{{.Id}}', 'loud']);
    const logs = () => filesOf(join(host.root, 'containers', id), /^output\.log/);
    // both files full, and the older one gone more than once
    const seen = new Set<number>();
    while (seen.size < 6) {
      for (const { inode } of await logs()) seen.add(inode);
      await sleep(50);
    }
    const files = await logs();
    expect(files).to.have.length.within(1, 2);
    for (const { bytes } of files) expect(bytes).to.be.at.most(mebibyte + 64 * 1024);
    expect(await peakBytes(await host.daemonPid())).to.be.lessThan(idleDaemonBytes + boundPerGuestBytes);
    await host.ok(['rm', '-f', 'loud']);
  });
});
