import { type BodyReader, maxChunkBytes, protocolError, type StreamName, streamOf } from './frameBody.ts';

const types = {
  stdin: 0x03,
  stdinEnd: 0x04,
  window: 0x05,
  signal: 0x06,
  written: 0x07,
  exitAck: 0x08,
  outputGone: 0x0a,
} as const;

/** What front doors and stand-ins say alike: of streams, terminal, signals and the end. */
export type StreamFrame =
  | { readonly type: 'stdin'; readonly offset: bigint; readonly bytes: Buffer }
  | { readonly type: 'stdinEnd'; readonly offset: bigint }
  | { readonly type: 'window'; readonly rows: number; readonly columns: number }
  | { readonly type: 'signal'; readonly number: number }
  | { readonly type: 'written'; readonly stream: StreamName; readonly offset: bigint }
  | { readonly type: 'exitAck' }
  | { readonly type: 'outputGone'; readonly stream: StreamName };

/**
 * Reads one of them; undefined for any other type.
 * @throws HrunError WIRE_PROTOCOL for a body that is not as docs/wire.md says
 */
export function parseStreamFrame(type: number, body: BodyReader): StreamFrame | undefined {
  switch (type) {
    case types.stdin: {
      const offset = body.u64();
      const bytes = body.rest();
      if (bytes.length > maxChunkBytes) throw protocolError(`${bytes.length} bytes of stdin at once`);
      return { type: 'stdin', offset, bytes };
    }
    case types.stdinEnd:
      return { type: 'stdinEnd', offset: body.u64() };
    case types.window:
      return { type: 'window', rows: body.u16(), columns: body.u16() };
    case types.signal:
      return { type: 'signal', number: body.u32() };
    case types.written:
      return { type: 'written', stream: streamOf(body.u8()), offset: body.u64() };
    case types.exitAck:
      return { type: 'exitAck' };
    case types.outputGone:
      return { type: 'outputGone', stream: streamOf(body.u8()) };
    default:
      return undefined;
  }
}
