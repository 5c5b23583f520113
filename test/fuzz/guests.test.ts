import { duplexPair } from 'node:stream';
import { create, type DescMessage, type DescMethod, toBinary } from '@bufbuild/protobuf';
import { expect } from 'chai';
import fc from 'fast-check';
import { decodeAnswer } from '../../src/agent/calls.ts';
import type { Attachment } from '../../src/agent/client.ts';
import { AgentService } from '../../src/agent/generated/hrun/agent/v1/agent_pb.ts';
import { FrameReader, frameHeader, frameType, maxFrameDataBytes } from '../../src/agent/linkFrames.ts';
import type { AttachOutput } from '../../src/agent/types.ts';
import { isHrunError } from '../../src/base/errors.ts';
import { GuestProcess } from '../../src/runtime/guestProcess.ts';
import { QmpConnection } from '../../src/vmm/qemu/qmp.ts';
import { fuzz } from '../helpers/fuzz.ts';

type AnyMethod = DescMethod & { readonly output: DescMessage };

const never = new AbortController().signal;
const processInfo = { pid: 1, user: 'root', args: ['sh', '-c', 'x'], tty: '?', rssBytes: 5n };

describe('fuzzing what guests and their QEMU say', () => {
  const data = Buffer.alloc(100, 5);
  fuzz({
    name: 'link',
    seeds: [
      Buffer.concat([
        frameHeader(7n, frameType.opened, 0),
        frameHeader(7n, frameType.data, data.length),
        data,
        frameHeader(7n, frameType.close, 0),
      ]),
    ],
    check(bytes) {
      const reader = new FrameReader();
      let taken = 0;
      for (let at = 0; at < bytes.length; at += 33) {
        for (const frame of reader.read(bytes.subarray(at, at + 33))) {
          expect(frame.data.length).to.be.at.most(maxFrameDataBytes);
          taken += 20 + frame.data.length;
        }
      }
      expect(taken + reader.droppedBytes).to.be.at.most(bytes.length);
      // whatever came before: once its frame is filled up, the next is found
      const next = Buffer.concat([Buffer.alloc(maxFrameDataBytes), frameHeader(9n, frameType.opened, 0)]);
      expect([...reader.read(next)].at(-1)).to.include({ epoch: 9n, type: frameType.opened });
    },
  });

  const { method } = AgentService;
  const answers = [
    toBinary(
      method.hello.output,
      create(method.hello.output, { protocol: 1, agentVersion: '1', bootId: 'b' }),
    ),
    toBinary(
      method.listProcesses.output,
      create(method.listProcesses.output, { processes: [processInfo, processInfo] }),
    ),
    toBinary(
      method.attach.output,
      create(method.attach.output, { message: { case: 'stdout', value: { offset: 5n, data } } }),
    ),
    toBinary(
      method.containerStats.output,
      create(method.containerStats.output, {
        files: { 'memory.current': '5\n', 'cpu.stat': 'usage_usec 1\n' },
      }),
    ),
  ];
  fuzz({
    name: 'agentMessages',
    seeds: answers,
    check(bytes) {
      for (const of of Object.values<AnyMethod>(method)) {
        try {
          decodeAnswer(of, bytes);
        } catch (error) {
          // whatever a codec throws becomes the failure of the call
          expect(error).to.be.instanceOf(Error);
        }
      }
    },
  });

  fuzz({
    name: 'qmp',
    seeds: [
      '{"QMP": {"version": {}, "capabilities": ["oob"]}}\r\n{"return": {"status": "running"}, "id": 1}\r\n',
      '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}, "timestamp": {"seconds": 1}}\r\n',
      '{"id": 1, "error": {"class": "GenericError", "desc": "no"}}\r\n{"return": "", "id": 2}\r\n',
    ].map((text) => Buffer.from(text)),
    async check(bytes) {
      const [host, peer] = duplexPair();
      using qmp = new QmpConnection(host, 'microVM x');
      peer.on('error', () => {}).resume();
      const answers = [1, 2].map((id) =>
        qmp.execute(`x${id}`, {}, never).catch((error: unknown) => {
          if (!isHrunError(error)) throw error;
        }),
      );
      for (let at = 0; at < bytes.length; at += 17) peer.write(bytes.subarray(at, at + 17));
      peer.end();
      // whatever was said: at the end nobody waits
      expect(['QEMU_FAILED', 'VM_DIED']).to.include((await qmp.closed).code);
      await Promise.all(answers);
    },
  });

  it('attachments: output is taken whole, in order and once, or the agent is not believed', async () => {
    const offset = fc.oneof(fc.bigInt({ min: 0n, max: 40n }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
    const chunk = fc.record({
      case: fc.constantFrom('stdout' as const, 'stderr' as const),
      value: fc.record({ offset, data: fc.uint8Array({ maxLength: 20 }) }),
    });
    const accepted = fc.record({
      case: fc.constant('stdinAccepted' as const),
      value: fc.record({ offset, closed: fc.boolean() }),
    });
    const exit = fc.record({
      case: fc.constant('exit' as const),
      value: fc.record({
        code: fc.nat(300),
        signal: fc.nat(70),
        oomKilled: fc.boolean(),
        stdoutLength: offset,
        stderrLength: offset,
      }),
    });
    const said = fc.array(fc.oneof({ weight: 5, arbitrary: chunk }, accepted, exit), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(fc.array(said, { minLength: 1, maxLength: 3 }), async (attachments) => {
        const left = attachments.map((messages) => messages as unknown as AttachOutput[]);
        const client = {
          async attach(): Promise<Attachment> {
            const messages = left.shift();
            async function* outputs() {
              if (messages === undefined) throw new TypeError('nothing more is said');
              yield* messages;
            }
            return { outputs: outputs(), send: async () => {}, [Symbol.dispose]: () => {} };
          },
        };
        const next = { stdout: 0n, stderr: 0n };
        const process = new GuestProcess({ agent: async () => ({ client }) }, 'c', 'init', 1);
        const outcome = await process
          .follow(
            { stdout: 0n, stderr: 0n },
            async (stream, at, bytes) => {
              expect(at).to.equal(next[stream]);
              expect(bytes.length).to.be.greaterThan(0);
              next[stream] += BigInt(bytes.length);
            },
            never,
          )
          .catch((error: unknown) => error);
        if (isHrunError(outcome, 'AGENT_PROTOCOL') || outcome instanceof TypeError) return;
        expect(outcome).to.deep.include({ stdoutLength: next.stdout, stderrLength: next.stderr });
        expect((outcome as { code: number }).code).to.be.at.most(255);
      }),
      { numRuns: 300 },
    );
  });
});
