import { z } from 'zod';
import { FrameSplitter } from '../../base/frameSplitter.ts';
import { BodyReader, maxChunkBytes, protocolError, type StreamName, streamOf } from './frameBody.ts';

/** A chunk of stdin is the longest that a stand-in says. */
const maxFrameBytes = maxChunkBytes + 64;

const fromStandIn = {
  hello: 0x01,
  stdin: 0x03,
  stdinEnd: 0x04,
  window: 0x05,
  signal: 0x06,
  written: 0x07,
  exitAck: 0x08,
  outputGone: 0x0a,
  serverEnded: 0x0b,
  sharesClosed: 0x0c,
  outgrown: 0x0d,
} as const;

const HelloSchema = z.object({
  version: z.literal(1),
  stdoutReceived: z.coerce.bigint().nonnegative(),
  stderrReceived: z.coerce.bigint().nonnegative(),
  rows: z.int().min(0).max(65535),
  columns: z.int().min(0).max(65535),
  server: z.string().max(4096),
});

export type StandInHello = Readonly<z.infer<typeof HelloSchema>>;

export type StandInFrame =
  | { readonly type: 'hello'; readonly hello: StandInHello }
  | { readonly type: 'stdin'; readonly offset: bigint; readonly bytes: Buffer }
  | { readonly type: 'stdinEnd'; readonly offset: bigint }
  | { readonly type: 'window'; readonly rows: number; readonly columns: number }
  | { readonly type: 'signal'; readonly number: number }
  | { readonly type: 'written'; readonly stream: StreamName; readonly offset: bigint }
  | { readonly type: 'outputGone'; readonly stream: StreamName }
  | { readonly type: 'serverEnded'; readonly how: string }
  | { readonly type: 'exitAck' | 'sharesClosed' | 'outgrown' };

export function standInFrameSplitter(): FrameSplitter {
  return new FrameSplitter(() => maxFrameBytes);
}

/** @throws HrunError WIRE_PROTOCOL for what is not as docs/stand-in.md says */
export function parseStandInFrame(type: number, bytes: Buffer): StandInFrame {
  const body = new BodyReader(bytes);
  const frame = parseBody(type, body);
  body.end();
  return frame;
}

function parseBody(type: number, body: BodyReader): StandInFrame {
  switch (type) {
    case fromStandIn.hello: {
      const hello = HelloSchema.safeParse(body.json());
      if (!hello.success) throw protocolError('a HELLO that this version does not understand');
      return { type: 'hello', hello: hello.data };
    }
    case fromStandIn.stdin: {
      const offset = body.u64();
      // A view of what the splitter goes on to use.
      return { type: 'stdin', offset, bytes: Buffer.from(body.rest()) };
    }
    case fromStandIn.stdinEnd:
      return { type: 'stdinEnd', offset: body.u64() };
    case fromStandIn.window:
      return { type: 'window', rows: body.u16(), columns: body.u16() };
    case fromStandIn.signal:
      return { type: 'signal', number: body.u32() };
    case fromStandIn.written:
      return { type: 'written', stream: streamOf(body.u8()), offset: body.u64() };
    case fromStandIn.outputGone:
      return { type: 'outputGone', stream: streamOf(body.u8()) };
    case fromStandIn.serverEnded:
      return { type: 'serverEnded', how: body.rest().toString('utf8') };
    case fromStandIn.exitAck:
      return { type: 'exitAck' };
    case fromStandIn.sharesClosed:
      return { type: 'sharesClosed' };
    case fromStandIn.outgrown:
      return { type: 'outgrown' };
    default:
      throw protocolError(`a frame of unknown type ${type}`);
  }
}
