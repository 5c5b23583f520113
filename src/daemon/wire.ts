import { z } from 'zod';
import { HrunError } from '../base/errors.ts';
import { FrameSplitter } from '../base/frameSplitter.ts';
import { BodyReader, protocolError } from '../runtime/wire/frameBody.ts';
import { parseStreamFrame, type StreamFrame } from '../runtime/wire/streamFrames.ts';

/**
 * The frames of docs/wire.md: `u32 length · u8 type · body`, little-endian. Everything that comes from a front door
 * is bounded and checked here; the rest of the daemon sees typed values.
 */
export const maxFrameBytes = 1024 * 1024 + 64;
/** HELLO alone may be longer: it holds what execve lets through. */
const maxHelloBytes = 8 * 1024 * 1024;

const fromFront = { hello: 0x01, resume: 0x02, handDone: 0x09 } as const;

/** Cuts what a front door sends into frames. */
export function frontFrameSplitter(): FrameSplitter {
  return new FrameSplitter((type) => (type === fromFront.hello ? maxHelloBytes : maxFrameBytes));
}

const HelloHeaderSchema = z.object({
  version: z.literal(1),
  pid: z.int(),
  ppid: z.int(),
  uid: z.int(),
  gid: z.int(),
  umask: z.int(),
  cwd: z.string(),
  tty: z.tuple([z.boolean(), z.boolean(), z.boolean()]),
  rows: z.int().min(0).max(65535),
  columns: z.int().min(0).max(65535),
  executable: z.string(),
  startedMonotonicNs: z.number(),
});

export type HelloHeader = Readonly<z.infer<typeof HelloHeaderSchema>>;

/** What a command was called with. */
export interface Hello {
  readonly header: HelloHeader;
  /** Without argv[0]. */
  readonly argv: readonly string[];
  readonly environment: ReadonlyMap<string, string>;
}

export type FrontFrame =
  | { readonly type: 'hello'; readonly hello: Hello }
  | {
      readonly type: 'resume';
      /** Lower-case hex. */
      readonly token: string;
      readonly stdoutReceived: bigint;
      readonly stderrReceived: bigint;
    }
  | {
      readonly type: 'handDone';
      readonly id: number;
      readonly errno: number;
      readonly result: unknown;
      readonly bytes: Buffer;
    }
  | StreamFrame;

/** @throws HrunError WIRE_PROTOCOL for an unknown type or a body that is not as docs/wire.md says */
export function parseFrontFrame(type: number, body: Buffer): FrontFrame {
  const reader = new BodyReader(body);
  const frame = parseStreamFrame(type, reader) ?? parseBody(type, reader);
  reader.end();
  return frame;
}

function parseBody(type: number, body: BodyReader): FrontFrame {
  switch (type) {
    case fromFront.hello:
      return { type: 'hello', hello: parseHello(body) };
    case fromFront.resume:
      return {
        type: 'resume',
        token: body.bytes(32).toString('hex'),
        stdoutReceived: body.u64(),
        stderrReceived: body.u64(),
      };
    case fromFront.handDone:
      return { type: 'handDone', id: body.u32(), errno: body.u32(), result: body.json(), bytes: body.rest() };
    default:
      throw protocolError(`a frame of unknown type ${type}`);
  }
}

function parseHello(body: BodyReader): Hello {
  const header = HelloHeaderSchema.safeParse(body.json());
  if (!header.success) throw protocolError('a HELLO that this version does not understand');
  const argv = body.list().map((bytes, index) => {
    const text = bytes.toString('utf8');
    // A byte that is no UTF-8 would silently become another name.
    if (!Buffer.from(text).equals(bytes)) {
      throw new HrunError('INVALID_ARGUMENT', `argument ${index + 1} is not valid UTF-8`);
    }
    return text;
  });
  const environment = new Map<string, string>();
  for (const bytes of body.list()) {
    const entry = bytes.toString('utf8');
    const equals = entry.indexOf('=');
    if (equals > 0) environment.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  return { header: header.data, argv, environment };
}
