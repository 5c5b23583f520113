import { z } from 'zod';
import { FrameSplitter } from '../../base/frameSplitter.ts';
import { BodyReader, maxChunkBytes, protocolError } from './frameBody.ts';
import { parseStreamFrame, type StreamFrame } from './streamFrames.ts';

/** A chunk of stdin is the longest that a stand-in says. */
const maxFrameBytes = maxChunkBytes + 64;

const fromStandIn = { hello: 0x01, serverEnded: 0x0b, sharesClosed: 0x0c, outgrown: 0x0d } as const;

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
  | { readonly type: 'serverEnded'; readonly how: string }
  | { readonly type: 'sharesClosed' | 'outgrown' }
  | StreamFrame;

export function standInFrameSplitter(): FrameSplitter {
  return new FrameSplitter(() => maxFrameBytes);
}

/** @throws HrunError WIRE_PROTOCOL for what is not as docs/stand-in.md says */
export function parseStandInFrame(type: number, bytes: Buffer): StandInFrame {
  const body = new BodyReader(bytes);
  const frame = parseStreamFrame(type, body) ?? parseBody(type, body);
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
    case fromStandIn.serverEnded:
      return { type: 'serverEnded', how: body.rest().toString('utf8') };
    case fromStandIn.sharesClosed:
      return { type: 'sharesClosed' };
    case fromStandIn.outgrown:
      return { type: 'outgrown' };
    default:
      throw protocolError(`a frame of unknown type ${type}`);
  }
}
