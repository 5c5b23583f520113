import { randomBytes } from 'node:crypto';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { type Duplex, duplexPair } from 'node:stream';
import { Metadata } from '@grpc/grpc-js';
import { expect } from 'chai';
import { type AgentConnection, connectAgent } from '../../../src/agent/connection.ts';
import type { Dial } from '../../../src/agent/dial.ts';
import { failureReasonOf } from '../../../src/agent/failure.ts';
import { serialDial } from '../../../src/agent/serialDial.ts';
import { vsockDial } from '../../../src/agent/vsockDial.ts';
import { FakeAgent, refusal } from '../../helpers/fakeAgent.ts';
import { GuestLink } from '../../helpers/guestLink.ts';
import { temporaryDirectory } from '../../helpers/tempDir.ts';

const soon = () => AbortSignal.timeout(5000);
const greeting = {
  protocol: 1,
  agentVersion: '0',
  kernelRelease: '6',
  bootId: 'b',
  personalized: false,
  agentStartBoottimeNs: 5n,
};
// biome-ignore lint/suspicious/noExplicitAny: a handler takes whatever call its method has
type Handlers = Record<string, (call: any, answer: any) => void>;

/** One guest that can be dialled again and again, as over a serial port. */
function guestWith(handlers: Handlers): { dial: Dial; ports: Duplex[] } & Disposable {
  const agent = new FakeAgent({
    hello: (_call, answer) => answer(null, greeting),
    ...handlers,
  });
  const ports: Duplex[] = [];
  const dial = serialDial(async () => {
    const [hostPort, guestPort] = duplexPair();
    new GuestLink(guestPort, (stream) => agent.serve(stream));
    ports.push(hostPort);
    return hostPort;
  });
  return { dial, ports, [Symbol.dispose]: () => agent[Symbol.dispose]() };
}

async function withAgent(
  handlers: Handlers,
  use: (connection: AgentConnection, ports: readonly Duplex[]) => Promise<void>,
): Promise<void> {
  await using directory = await temporaryDirectory();
  using guest = guestWith(handlers);
  await using connection = await connectAgent(guest.dial, { socketPath: join(directory.path, 'a') }, soon());
  await use(connection, guest.ports);
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.fail('it did not fail'),
    (error: unknown) => error,
  );
}

describe('an agent connection', () => {
  it('greets, and leaves nothing behind', async () => {
    await using directory = await temporaryDirectory();
    using guest = guestWith({});
    const socketPath = join(directory.path, 'a');
    const connection = await connectAgent(guest.dial, { socketPath }, soon());
    expect(connection.hello).to.include(greeting);
    // one connection is all it takes, so nobody else finds the way
    expect(await failureOf(access(socketPath))).to.have.property('code', 'ENOENT');
    await connection[Symbol.asyncDispose]();
    await connection.closed;
    expect(guest.ports[0]?.destroyed).to.equal(true);
  });

  it('is made anew after it was lost', async () => {
    await using directory = await temporaryDirectory();
    using guest = guestWith({});
    const socketPath = join(directory.path, 'a');
    {
      await using first = await connectAgent(guest.dial, { socketPath }, soon());
      guest.ports[0]?.destroy();
      await first.closed;
      const failure = await failureOf(first.client.listContainers(soon()));
      expect(failure).to.have.property('code', 'AGENT_UNREACHABLE');
    }
    await using second = await connectAgent(guest.dial, { socketPath }, soon());
    expect(second.hello.protocol).to.equal(1);
    expect(guest.ports).to.have.length(2);
  });

  it('shows nothing of the guest that could move a cursor', async () => {
    await using directory = await temporaryDirectory();
    const hostile = { ...greeting, kernelRelease: `6\u001b[2J${'x'.repeat(10_000)}` };
    using guest = guestWith({ hello: (_call, answer) => answer(null, hostile) });
    await using connection = await connectAgent(
      guest.dial,
      { socketPath: join(directory.path, 'a') },
      soon(),
    );
    expect(connection.hello.kernelRelease).to.match(/^6\?\[2Jx{100,199}…$/);
  });

  it('refuses an agent of another protocol', async () => {
    await using directory = await temporaryDirectory();
    using guest = guestWith({ hello: (_call, answer) => answer(null, { ...greeting, protocol: 2 }) });
    const failure = await failureOf(
      connectAgent(guest.dial, { socketPath: join(directory.path, 'a') }, soon()),
    );
    expect(failure).to.have.property('code', 'AGENT_PROTOCOL');
    expect(guest.ports[0]?.destroyed).to.equal(true);
  });

  it('stops when told to while the agent does not answer', async () => {
    await using directory = await temporaryDirectory();
    using guest = guestWith({ hello: () => {} });
    const connecting = connectAgent(
      guest.dial,
      { socketPath: join(directory.path, 'a') },
      AbortSignal.timeout(100),
    );
    expect(await failureOf(connecting)).to.have.property('name', 'TimeoutError');
    expect(guest.ports[0]?.destroyed).to.equal(true);
  });
});

describe('the agent client', () => {
  it('turns a refusal into an error with its reason and clean text', async () => {
    const handlers: Handlers = {
      createContainer: (_call, answer) =>
        answer(refusal(new Metadata(), 5, 'no "x\u001b[2J" in PATH', 'FAILURE_REASON_COMMAND_NOT_FOUND')),
      statPath: (_call, answer) => answer(refusal(new Metadata(), 13, `${'y'.repeat(5000)}`)),
    };
    await withAgent(handlers, async ({ client }) => {
      const notFound = await failureOf(client.createContainer({ containerId: 'c' }, soon()));
      expect(notFound).to.include({ code: 'COMMAND_NOT_FOUND', message: 'no "x?[2J" in PATH' });
      expect(failureReasonOf(notFound)).to.equal('COMMAND_NOT_FOUND');
      const internal = await failureOf(client.statPath({ path: '/' }, soon()));
      expect(internal).to.have.property('code', 'AGENT_PROTOCOL');
      expect(internal).to.have.property('message').with.length.lessThan(1100);
      const unimplemented = await failureOf(client.packPath({ path: '/' }, soon()));
      expect(unimplemented).to.have.property('code', 'AGENT_PROTOCOL');
    });
  });

  it('cancels a call whose signal fires, with the reason of the signal', async () => {
    const cancelled = Promise.withResolvers<void>();
    const handlers: Handlers = { exec: (call) => call.on('cancelled', () => cancelled.resolve()) };
    await withAgent(handlers, async ({ client }) => {
      const stop = new AbortController();
      const failure = failureOf(client.exec({ containerId: 'c' }, stop.signal));
      setImmediate(() => stop.abort(new Error('enough')));
      expect(await failure).to.have.property('message', 'enough');
      await cancelled.promise;
    });
  });

  it('fails pending calls when the connection is lost', async () => {
    const called = Promise.withResolvers<void>();
    const handlers: Handlers = { exec: () => called.resolve(), attach: () => {} };
    await withAgent(handlers, async ({ client }, ports) => {
      using attachment = await client.attach({ containerId: 'c', processId: 'init' }, soon());
      const failure = failureOf(client.exec({ containerId: 'c' }, soon()));
      await called.promise;
      ports[0]?.destroy();
      expect(await failure).to.have.property('code', 'AGENT_UNREACHABLE');
      const resized = attachment.send({ case: 'resize', value: { rows: 1, columns: 1 } });
      expect(await failureOf(resized)).to.have.property('code', 'AGENT_UNREACHABLE');
    });
  });

  it('yields the progress of unpacking, and its failure', async () => {
    const handlers: Handlers = {
      unpackLayers: (call) => {
        for (let entries = 0n; entries < 100n; entries += 1n)
          call.write({ layerIndex: 0, entries, bytesRead: 0n });
        const metadata = new Metadata();
        call.emit(
          'error',
          refusal(metadata, 3, 'layer sha256:1 ends too early', 'FAILURE_REASON_CORRUPT_ARCHIVE'),
        );
      },
    };
    await withAgent(handlers, async ({ client }) => {
      const seen: bigint[] = [];
      const failure = await failureOf(
        (async () => {
          for await (const { entries } of client.unpackLayers({ sourceSerial: 's' }, soon()))
            seen.push(entries);
        })(),
      );
      expect(failure).to.include({ code: 'LAYER_CORRUPT', message: 'layer sha256:1 ends too early' });
      expect(seen).to.have.length(100);
    });
  });

  it('cancels a stream whose loop is left early', async () => {
    const cancelled = Promise.withResolvers<void>();
    const handlers: Handlers = {
      unpackLayers: (call) => {
        call.on('cancelled', () => cancelled.resolve());
        call.write({ layerIndex: 0, entries: 1n, bytesRead: 0n });
      },
    };
    await withAgent(handlers, async ({ client }) => {
      for await (const _progress of client.unpackLayers({ sourceSerial: 's' }, soon())) break;
      await cancelled.promise;
    });
  });

  it('attaches in both directions', async () => {
    const handlers: Handlers = {
      attach: (call) => {
        call.on(
          'data',
          ({ message }: { message: { case: string; value: { data: Uint8Array; offset: bigint } } }) => {
            if (message.case === 'stdin') call.write({ message: { ...message, case: 'stdout' } });
            if (message.case === 'stdinEnd') {
              call.write({ message: { case: 'exit', value: { code: 3, signal: 0, stdoutLength: 6n } } });
              call.end();
            }
          },
        );
      },
    };
    await withAgent(handlers, async ({ client }) => {
      using attachment = await client.attach({ containerId: 'c', processId: 'init' }, soon());
      await attachment.send({ case: 'stdin', value: { offset: 0n, data: Buffer.from('abc') } });
      await attachment.send({ case: 'stdin', value: { offset: 3n, data: Buffer.from('def') } });
      await attachment.send({ case: 'stdinEnd', value: { offset: 6n } });
      const seen: string[] = [];
      for await (const output of attachment.outputs) {
        seen.push(output.case === 'exit' ? `exit ${output.value.code}` : output.case);
      }
      expect(seen).to.deep.equal(['stdout', 'stdout', 'exit 3']);
      // the process is gone: input for it is nobody's
      await attachment.send({ case: 'stdinEnd', value: { offset: 6n } });
    });
  });

  it('holds back an agent whose output is not read, and input that is not taken', async () => {
    let written = 0;
    const handlers: Handlers = {
      attach: (call) => {
        const data = randomBytes(32 * 1024);
        const more = () => {
          written += 1;
          if (written < 2000 && call.write({ message: { case: 'stdout', value: { offset: 0n, data } } }))
            setImmediate(more);
        };
        call.on('drain', more);
        more();
        call.pause();
      },
    };
    await withAgent(handlers, async ({ client }) => {
      const stop = new AbortController();
      using attachment = await client.attach({ containerId: 'c', processId: 'init' }, stop.signal);
      let accepted = 0;
      const data = randomBytes(32 * 1024);
      const flood = (async () => {
        for (; accepted < 2000; accepted += 1)
          await attachment.send({ case: 'stdin', value: { offset: 0n, data } });
      })();
      flood.catch(() => {});
      for (let round = 0; round < 50; round += 1) await client.hello({ protocol: 1 }, soon());
      expect(written).to.be.lessThan(200);
      expect(accepted).to.be.lessThan(200);
      stop.abort(new Error('enough'));
      expect(await failureOf(flood)).to.have.property('message', 'enough');
    });
  });

  it('refuses an answer that would be much larger than it looks', async () => {
    const handlers: Handlers = {
      listProcesses: (_call, answer) =>
        answer(null, { processes: Array.from({ length: 100_000 }, () => ({})) }),
    };
    await withAgent(handlers, async ({ client }) => {
      const failure = await failureOf(client.listProcesses('c', soon()));
      expect(failure).to.have.property('code', 'AGENT_PROTOCOL');
      expect(failure).to.have.property('message').that.contains('more than 5000 fields');
    });
  });

  it('refuses a chunk above the limit of the contract', async () => {
    const handlers: Handlers = {
      attach: (call) =>
        call.write({ message: { case: 'stdout', value: { offset: 0n, data: Buffer.alloc(40_000) } } }),
    };
    await withAgent(handlers, async ({ client }) => {
      using attachment = await client.attach({ containerId: 'c', processId: 'init' }, soon());
      const failure = await failureOf(
        (async () => {
          for await (const _output of attachment.outputs);
        })(),
      );
      expect(failure).to.have.property('code', 'AGENT_PROTOCOL');
    });
  });
});

describe('vsockDial', () => {
  it('tries again while the guest is booting, and not after another failure', async () => {
    const errors = ['ECONNRESET', 'ETIMEDOUT', 'ENODEV'];
    const [end] = duplexPair();
    const dial = vsockDial(async () => {
      const code = errors.shift();
      if (code !== undefined) throw Object.assign(new Error(code), { code });
      return end;
    });
    expect(await dial(soon())).to.equal(end);
    const broken = vsockDial(() => Promise.reject(Object.assign(new Error('no'), { code: 'EAFNOSUPPORT' })));
    expect(await failureOf(broken(soon()))).to.have.property('code', 'EAFNOSUPPORT');
    const never = vsockDial(() => Promise.reject(Object.assign(new Error('no'), { code: 'ECONNRESET' })));
    expect(await failureOf(never(AbortSignal.timeout(20)))).to.have.property('name', 'TimeoutError');
  });
});
