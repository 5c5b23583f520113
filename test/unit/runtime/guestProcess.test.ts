import { expect } from 'chai';
import type { Attachment } from '../../../src/agent/client.ts';
import type { AttachInput, AttachOpenInit, AttachOutput } from '../../../src/agent/types.ts';
import { HrunError } from '../../../src/base/errors.ts';
import type { InputChannel, InputPiece } from '../../../src/runtime/attachIo.ts';
import { GuestProcess } from '../../../src/runtime/guestProcess.ts';

const never = new AbortController().signal;
const start = { stdout: 0n, stderr: 0n };
const lost = () => new HrunError('AGENT_UNREACHABLE', 'the connection broke');

function chunk(text: string, offset: number, stream: 'stdout' | 'stderr' = 'stdout'): AttachOutput {
  return {
    case: stream,
    value: { offset: BigInt(offset), data: Buffer.from(text) },
  } as unknown as AttachOutput;
}

function exit(code: number, stdoutLength: number): AttachOutput {
  const value = { code, signal: 0, oomKilled: false, stdoutLength: BigInt(stdoutLength), stderrLength: 0n };
  return { case: 'exit', value } as AttachOutput;
}

function accepted(offset: number, closed = false): AttachOutput {
  return { case: 'stdinAccepted', value: { offset: BigInt(offset), closed } } as AttachOutput;
}

type Script = (sent: AttachInput[]) => AsyncGenerator<AttachOutput>;

/** An agent that plays one script per attachment and notes what it was asked and sent. */
function agentPlaying(...scripts: Script[]) {
  const opened: AttachOpenInit[] = [];
  const sent: AttachInput[][] = [];
  const source = {
    async agent() {
      return {
        client: {
          async attach(open: AttachOpenInit): Promise<Attachment> {
            const inputs: AttachInput[] = [];
            const script = scripts[opened.length];
            opened.push(open);
            sent.push(inputs);
            if (script === undefined) throw new Error('attached once too often');
            return {
              outputs: script(inputs),
              send: async (input) => void inputs.push(input),
              [Symbol.dispose]: () => {},
            };
          },
        },
      };
    },
  };
  return { source, opened, sent };
}

function collector() {
  const taken: string[] = [];
  return {
    taken,
    sink: async (_stream: string, _offset: bigint, data: Uint8Array) =>
      void taken.push(String(Buffer.from(data))),
  };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

describe('the host end of a guest process', () => {
  it('takes the output in order and gives back the exit', async () => {
    const { source } = agentPlaying(async function* () {
      yield chunk('one ', 0);
      yield chunk('two', 4);
      yield exit(7, 7);
    });
    const { taken, sink } = collector();
    const ended = await new GuestProcess(source, 'c', 'init').follow(start, sink, never);
    expect(ended.code).to.equal(7);
    expect(taken.join('')).to.equal('one two');
  });

  it('goes on over a lost connection from what is safe, and takes nothing twice', async () => {
    const { source, opened } = agentPlaying(
      async function* () {
        yield chunk('abcdef', 0);
        throw lost();
      },
      async function* () {
        yield chunk('abcdef', 0);
        yield chunk('gh', 6);
        yield exit(0, 8);
      },
    );
    const { taken, sink } = collector();
    await new GuestProcess(source, 'c', 'init').follow(start, sink, never);
    expect(taken.join('')).to.equal('abcdefgh');
    // nothing was acknowledged, so the agent was not told that it may forget
    expect(opened[1]?.stdoutOffset).to.equal(0n);
  });

  it('gives up an agent that only ever loses its connection', async () => {
    const { source, opened } = agentPlaying(
      ...Array.from({ length: 100 }, (_, index): Script => {
        return async function* () {
          // one that talks meanwhile is well
          if (index === 20) yield chunk('x', 0);
          if (index % 2 === 0) throw lost();
        };
      }),
    );
    const following = new GuestProcess(source, 'c', 'init', 1).follow(start, async () => {}, never);
    const failure = await following.catch((error: unknown) => error);
    expect(failure).to.have.property('code', 'AGENT_PROTOCOL');
    expect(opened).to.have.length(70);
  });

  it('acknowledges in large steps only', async () => {
    let process: GuestProcess | undefined;
    const size = 40 * 1024;
    const { source, sent } = agentPlaying(async function* () {
      yield chunk('x'.repeat(size), 0);
      yield chunk('x'.repeat(size), size);
      yield exit(0, 2 * size);
    });
    process = new GuestProcess(source, 'c', 'init');
    const at = { ...start };
    await process.follow(
      start,
      async (_stream, offset, data) => {
        at.stdout = offset + BigInt(data.length);
        process?.acknowledge(at);
      },
      never,
    );
    const acks = sent[0]?.filter((input) => input.case === 'ack') ?? [];
    expect(acks).to.have.length(1);
  });

  for (const [what, script] of Object.entries({
    'a gap': async function* () {
      yield chunk('x', 5);
    },
    'an exit before the output is whole': async function* () {
      yield exit(0, 3);
    },
    'an exit code that there is not': async function* () {
      yield exit(256, 0);
    },
  } satisfies Record<string, Script>)) {
    it(`does not believe ${what}`, async () => {
      const { source } = agentPlaying(script);
      const { sink } = collector();
      const error = await new GuestProcess(source, 'c', 'init')
        .follow(start, sink, never)
        .catch((e: unknown) => e);
      expect(error).to.be.instanceOf(HrunError).with.property('code', 'AGENT_PROTOCOL');
    });
  }

  it('sends input again from what the agent has, and forgets it then', async () => {
    const forgotten: bigint[] = [];
    const input = channelOf('hello world', forgotten);
    const { source, sent } = agentPlaying(
      async function* (inputs) {
        yield accepted(0);
        await until(() => inputs.some(({ case: kind }) => kind === 'stdinEnd'));
        yield accepted(5);
        throw lost();
      },
      async function* (inputs) {
        yield accepted(5);
        await until(() => inputs.some(({ case: kind }) => kind === 'stdinEnd'));
        yield accepted(11);
        yield exit(0, 0);
      },
    );
    const process = new GuestProcess(source, 'c', 'init');
    const { sink } = collector();
    const stop = new AbortController();
    const relay = process.relayInput(input, 0n, stop.signal).catch(() => {});
    await process.follow(start, sink, never);
    stop.abort();
    await relay;
    const texts = sent.map((inputs) =>
      inputs
        .flatMap((one) => (one.case === 'stdin' ? [String(Buffer.from(one.value.data ?? []))] : []))
        .join(''),
    );
    expect(texts[0]).to.equal('hello world');
    expect(forgotten).to.include(5n).and.include(11n);
  });

  it('closes the input when the process reads no more', async () => {
    let closed = false;
    const input = {
      ...channelOf('never read', []),
      close: () => {
        closed = true;
      },
    };
    const { source } = agentPlaying(async function* () {
      yield accepted(0, true);
      yield exit(0, 0);
    });
    const process = new GuestProcess(source, 'c', 'init');
    const stop = new AbortController();
    const relay = process.relayInput(input, 0n, stop.signal).catch(() => {});
    await process.follow(start, collector().sink, never);
    expect(closed).to.equal(true);
    stop.abort();
    await relay;
  });

  it('never has more input on its way than the window', async () => {
    const window = 64 * 1024;
    const input = channelOf('x'.repeat(3 * window), []);
    let most = 0;
    const { source } = agentPlaying(async function* (inputs) {
      let taken = 0;
      yield accepted(0);
      const received = () =>
        inputs.reduce((sum, one) => sum + (one.case === 'stdin' ? (one.value.data?.length ?? 0) : 0), 0);
      while (taken < 3 * window) {
        await until(() => received() > taken);
        for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
        most = Math.max(most, received() - taken);
        taken = received();
        yield accepted(taken);
      }
      yield exit(0, 0);
    });
    const process = new GuestProcess(source, 'c', 'init');
    const stop = new AbortController();
    const relay = process.relayInput(input, 0n, stop.signal).catch(() => {});
    await process.follow(start, collector().sink, never);
    stop.abort();
    await relay;
    expect(most).to.equal(window);
  });

  for (const [what, offset] of [
    ['more input than it was sent', 5],
    ['an offset that no counter goes up to', 2 ** 63],
  ] as const) {
    it(`does not believe an agent that accepted ${what}`, async () => {
      const { source } = agentPlaying(async function* () {
        yield accepted(0);
        yield accepted(offset);
        yield exit(0, 0);
      });
      const following = new GuestProcess(source, 'c', 'init').follow(start, async () => {}, never);
      expect(await following.catch((error: unknown) => error)).to.have.property('code', 'AGENT_PROTOCOL');
    });
  }
});

function channelOf(text: string, forgotten: bigint[]): InputChannel {
  return {
    async *read(from: bigint): AsyncGenerator<InputPiece> {
      yield { offset: from, bytes: Buffer.from(text).subarray(Number(from)) };
    },
    accept: (offset) => void forgotten.push(offset),
    close: () => {},
  };
}
