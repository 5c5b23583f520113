import type { StreamName } from './frameBody.ts';

/** The frames that the daemon sends, encoded as docs/wire.md says. */
export function acceptedFrame(daemonPid: number): Buffer {
  return frame(0x81, u32(daemonPid));
}

export function refusedFrame(message: string): Buffer {
  return frame(0x82, Buffer.from(message));
}

/** At most `maxChunkBytes` bytes. */
export function outputFrame(stream: StreamName, offset: bigint, bytes: Uint8Array): Buffer {
  return frame(stream === 'stdout' ? 0x83 : 0x84, u64(offset), bytes);
}

export function stdinOpenFrame(accepted: bigint, limit: bigint): Buffer {
  return frame(0x85, u64(accepted), u64(limit));
}

export function terminalFrame(raw: boolean): Buffer {
  return frame(0x86, Buffer.of(raw ? 1 : 0));
}

export function signalsFrame(forward: boolean): Buffer {
  return frame(0x87, Buffer.of(forward ? 1 : 0));
}

/** `token`: 32 bytes. */
export function tokenFrame(token: Uint8Array): Buffer {
  return frame(0x88, token);
}

/** `code`: 0 to 255. */
export function exitFrame(code: number): Buffer {
  return frame(0x89, Buffer.of(code));
}

export function handFrame(id: number, request: object, bytes: Uint8Array): Buffer {
  const json = Buffer.from(JSON.stringify(request));
  return frame(0x8a, u32(id), u32(json.length), json, bytes);
}

export function stdinClosedFrame(): Buffer {
  return frame(0x8b);
}

/** To a stand-in: end the share server and remove the binds. */
export function closeSharesFrame(): Buffer {
  return frame(0x8c);
}

/** To a stand-in: let a child take memory until the kernel kills it. */
export function outgrowFrame(): Buffer {
  return frame(0x8d);
}

function frame(type: number, ...parts: readonly Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 1);
  const head = Buffer.alloc(5);
  head.writeUInt32LE(length, 0);
  head.writeUInt8(type, 4);
  return Buffer.concat([head, ...parts], 4 + length);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}
