import { type FileHandle, open, rename, stat, unlink } from 'node:fs/promises';
import { createConnection, type Socket } from 'node:net';
import { constants } from 'node:os';
import { resolve } from 'node:path';

/** Encoders of the frames that a front door sends, and a front door in TypeScript for tests of the daemon. */
export function frontFrame(type: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([u32(body.length + 1), Buffer.of(type), body]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

export function list(items: readonly (string | Uint8Array)[]): Buffer {
  const parts = items.map((item) => Buffer.from(item));
  return Buffer.concat([u32(parts.length), ...parts.flatMap((part) => [u32(part.length), part])]);
}

export function sizedJson(value: unknown): Buffer {
  const text = Buffer.from(JSON.stringify(value));
  return Buffer.concat([u32(text.length), text]);
}

export interface Call {
  readonly argv: readonly string[];
  readonly environment?: readonly string[];
  readonly cwd?: string;
  readonly tty?: readonly [boolean, boolean, boolean];
  readonly size?: readonly [rows: number, columns: number];
  /** All of stdin; undefined: never opened. */
  readonly stdin?: string | Uint8Array;
  /** Keep back WRITTEN until `release` is called. */
  readonly holdWritten?: boolean;
}

export function helloFrame(call: Call): Buffer {
  const header = {
    version: 1,
    pid: process.pid,
    ppid: process.ppid,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    umask: 0o22,
    cwd: call.cwd ?? '/',
    tty: call.tty ?? [false, false, false],
    rows: call.size?.[0] ?? 0,
    columns: call.size?.[1] ?? 0,
    executable: '/usr/bin/hrun',
    startedMonotonicNs: 1,
  };
  return frontFrame(0x01, sizedJson(header), list(call.argv), list(call.environment ?? []));
}

export function resumeFrame(token: Uint8Array, stdout: number, stderr: number): Buffer {
  return frontFrame(0x02, token, u64(stdout), u64(stderr));
}

type Outcome = { readonly code: number } | { readonly refused: string } | { readonly lost: true };

/** One connection of a front door; keeps what it was sent. */
export class FakeFrontDoor {
  readonly socket: Socket;
  readonly outcome: Promise<Outcome>;
  accepted: number | undefined;
  stdout = Buffer.alloc(0);
  stderr = Buffer.alloc(0);
  token: Buffer | undefined;
  raw = false;
  forwardsSignals = false;
  stdinClosed = false;
  stdinLimit = 0n;
  stdinAccepted = 0n;
  acknowledgeExit = true;
  readonly #call: Call;
  readonly #stdin: Buffer | undefined;
  readonly #handles = new Map<number, FileHandle>();
  readonly #changed = new Set<() => void>();
  #sent = 0;
  #ended = false;
  #nextHandle = 1;
  #pending = Buffer.alloc(0);

  constructor(path: string, first: Buffer, call: Call) {
    this.#call = call;
    this.#stdin = call.stdin === undefined ? undefined : Buffer.from(call.stdin);
    const outcome = Promise.withResolvers<Outcome>();
    this.outcome = outcome.promise;
    this.socket = createConnection(path, () => this.socket.write(first));
    this.socket.on('data', (chunk) => this.#receive(Buffer.from(chunk), outcome.resolve));
    this.socket.on('close', () => {
      outcome.resolve({ lost: true });
      this.#notify();
    });
    this.socket.on('error', () => {});
  }

  static call(path: string, call: Call): FakeFrontDoor {
    return new FakeFrontDoor(path, helloFrame(call), call);
  }

  /** Waits until `condition` holds; it is looked at after each frame. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.socket.destroyed) throw new Error('the connection is closed');
      await new Promise<void>((wake) => this.#changed.add(wake));
    }
  }

  send(type: number, ...parts: readonly Uint8Array[]): void {
    this.socket.write(frontFrame(type, ...parts));
  }

  /** Says that everything received so far is written. */
  release(): void {
    this.send(0x07, Buffer.of(1), u64(this.stdout.length));
    this.send(0x07, Buffer.of(2), u64(this.stderr.length));
  }

  #receive(chunk: Buffer, settle: (outcome: Outcome) => void): void {
    this.#pending = Buffer.concat([this.#pending, chunk]);
    while (this.#pending.length >= 4) {
      const length = this.#pending.readUInt32LE(0);
      if (this.#pending.length < 4 + length) break;
      const type = this.#pending.readUInt8(4);
      const body = Buffer.from(this.#pending.subarray(5, 4 + length));
      this.#pending = this.#pending.subarray(4 + length);
      this.#frame(type, body, settle);
    }
    this.#notify();
  }

  #notify(): void {
    for (const wake of [...this.#changed]) {
      this.#changed.delete(wake);
      wake();
    }
  }

  #frame(type: number, body: Buffer, settle: (outcome: Outcome) => void): void {
    if (type === 0x81) this.accepted = body.readUInt32LE(0);
    else if (type === 0x82) settle({ refused: body.toString() });
    else if (type === 0x83 || type === 0x84) this.#output(type === 0x83 ? 'stdout' : 'stderr', body);
    else if (type === 0x85) this.#stdinOpen(body.readBigUInt64LE(0), body.readBigUInt64LE(8));
    else if (type === 0x86) this.raw = body[0] === 1;
    else if (type === 0x87) this.forwardsSignals = body[0] === 1;
    else if (type === 0x88) this.token = body;
    else if (type === 0x89) {
      if (this.acknowledgeExit) this.send(0x08);
      settle({ code: body.readUInt8(0) });
    } else if (type === 0x8a) void this.#hand(body);
    else if (type === 0x8b) this.stdinClosed = true;
    else throw new Error(`unknown frame ${type}`);
  }

  #output(stream: 'stdout' | 'stderr', body: Buffer): void {
    const offset = Number(body.readBigUInt64LE(0));
    if (offset !== this[stream].length) throw new Error(`${stream} at ${offset}, not ${this[stream].length}`);
    this[stream] = Buffer.concat([this[stream], body.subarray(8)]);
    if (this.#call.holdWritten) return;
    this.send(0x07, Buffer.of(stream === 'stdout' ? 1 : 2), u64(this[stream].length));
  }

  #stdinOpen(accepted: bigint, limit: bigint): void {
    this.stdinAccepted = accepted;
    this.stdinLimit = limit;
    if (this.#stdin === undefined || this.#ended) return;
    const end = Math.min(Number(limit), this.#stdin.length);
    if (end > this.#sent) this.send(0x03, u64(this.#sent), this.#stdin.subarray(this.#sent, end));
    this.#sent = end;
    if (end === this.#stdin.length) {
      this.#ended = true;
      this.send(0x04, u64(end));
    }
  }

  async #hand(body: Buffer): Promise<void> {
    const id = body.readUInt32LE(0);
    const length = body.readUInt32LE(4);
    const request = JSON.parse(body.subarray(8, 8 + length).toString());
    const answer = (errno: number, result: object, bytes: Uint8Array = Buffer.alloc(0)) =>
      this.send(0x09, u32(id), u32(errno), sizedJson(result), bytes);
    try {
      const { result, bytes } = await this.#work(request, body.subarray(8 + length));
      answer(0, result, bytes);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? 'EIO';
      answer(constants.errno[code as keyof typeof constants.errno] ?? 5, {});
    }
  }

  // biome-ignore lint/suspicious/noExplicitAny: a request is what the daemon sent
  async #work(request: any, bytes: Buffer): Promise<{ result: object; bytes?: Buffer }> {
    const at = (path: string) => resolve(this.#call.cwd ?? '/', path);
    const handle = this.#handles.get(request.handle);
    switch (request.op) {
      case 'open': {
        const write = request.flags.includes('write');
        const flags = write ? (request.flags.includes('exclusive') ? 'wx' : 'w') : 'r';
        const file = await open(at(request.path), flags, request.mode);
        const found = await file.stat();
        this.#handles.set(this.#nextHandle, file);
        const { size, mode } = found;
        const identity = { fd: file.fd, device: String(found.dev), inode: String(found.ino) };
        const result = {
          handle: this.#nextHandle++,
          size,
          mode,
          isDirectory: found.isDirectory(),
          ...identity,
        };
        return { result };
      }
      case 'read': {
        const buffer = Buffer.alloc(request.length);
        const { bytesRead } = (await handle?.read(buffer)) ?? { bytesRead: 0 };
        return { result: {}, bytes: buffer.subarray(0, bytesRead) };
      }
      case 'write':
        await handle?.write(bytes);
        return { result: {} };
      case 'close':
        await handle?.close();
        this.#handles.delete(request.handle);
        return { result: {} };
      case 'stat': {
        const { size, mode, mtimeMs, uid, gid, dev, ino } = await stat(at(request.path));
        const realPath = at(request.path);
        const result = { size, mode, mtimeMs, uid, gid, device: dev, inode: ino, realPath, linkTarget: '' };
        return { result };
      }
      case 'rename':
        await rename(at(request.from), at(request.to));
        return { result: {} };
      case 'unlink':
        await unlink(at(request.path));
        return { result: {} };
      default:
        throw Object.assign(new Error(request.op), { code: 'ENOSYS' });
    }
  }

  /** Handles that the daemon has not closed. */
  get openHandles(): number {
    return this.#handles.size;
  }
}
