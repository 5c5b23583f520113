import { closeSync, fstatSync } from 'node:fs';
import { constants } from 'node:os';
import { getSystemErrorMessage, getSystemErrorName } from 'node:util';
import { z } from 'zod';
import { abortable } from '../base/abort.ts';
import { HrunError } from '../base/errors.ts';
import { printable } from '../base/text.ts';
import type { InputChannel } from '../runtime/attachIo.ts';
import type {
  CallerDescriptor,
  CallerFiles,
  CallerReader,
  CallerWriter,
  WriteOptions,
} from '../runtime/callerFiles.ts';
import { protocolError } from '../runtime/wire/frameBody.ts';
import { handFrame } from '../runtime/wire/frames.ts';

const handChunkBytes = 512 * 1024;
const none = new Uint8Array();

const Nothing = z.object({});
const Opened = z.object({
  handle: z.int().nonnegative(),
  size: z.number().nonnegative(),
  mode: z.int(),
  isDirectory: z.boolean(),
  /** Number of the descriptor in the front door. */
  fd: z.int().nonnegative(),
  device: z.string(),
  inode: z.string(),
});
const Packed = z.object({ bytes: z.int().nonnegative() });
const Unpacked = z.object({ skippedDevices: z.int().nonnegative() });
const Refusal = z.object({ message: z.string().optional() });
const Ended = z.object({
  code: z.int().nullable(),
  signal: z.int().nullable(),
  timedOut: z.boolean(),
  stderr: z.string(),
});
const Started = z.object({ pid: z.int().positive() });
const Stat = z.object({
  size: z.number(),
  mode: z.int(),
  mtimeMs: z.number(),
  linkTarget: z.string().default(''),
  uid: z.int(),
  gid: z.int(),
  realPath: z.string().default(''),
  device: z.union([z.string(), z.number()]),
  inode: z.union([z.string(), z.number()]),
});

interface HandAnswer {
  readonly errno: number;
  readonly result: unknown;
  readonly bytes: Buffer;
}

interface HandCall<Result> {
  readonly op: string;
  /** What the user named; shown in errors. */
  readonly subject: string;
  readonly request: object;
  readonly bytes?: Uint8Array;
  readonly result: z.ZodType<Result>;
}

/** Does file work through a front door: frames out, HAND_DONE back. */
export class Hands {
  readonly #send: (frame: Buffer) => void;
  readonly #pending = new Map<number, PromiseWithResolvers<HandAnswer>>();
  #nextId = 1;
  #failure: { readonly reason: unknown } | undefined;

  constructor(send: (frame: Buffer) => void) {
    this.#send = send;
  }

  /**
   * One hand. When `signal` fires first the work may still happen, and its answer is dropped.
   * @throws HrunError HAND_FAILED with a cause whose `code` is the errno's name
   */
  async call<Result>(
    call: HandCall<Result>,
    signal: AbortSignal,
  ): Promise<{ result: Result; bytes: Buffer }> {
    const { errno, result, bytes } = await abortable(this.#start(call), signal);
    if (errno !== 0) throw handFailed(call, errno, Refusal.safeParse(result).data?.message);
    const parsed = call.result.safeParse(result);
    if (!parsed.success) throw protocolError(`an answer to "${call.op}" that is not understood`);
    return { result: parsed.data, bytes };
  }

  /** HAND_DONE arrived. */
  done(id: number, answer: HandAnswer): void {
    const waiting = this.#pending.get(id);
    if (waiting === undefined) throw protocolError(`an answer to hand ${id}, which is not at work`);
    this.#pending.delete(id);
    waiting.resolve(answer);
  }

  /** The connection is lost. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    for (const waiting of this.#pending.values()) waiting.reject(reason);
    this.#pending.clear();
  }

  #start({ op, request, bytes }: HandCall<unknown>): Promise<HandAnswer> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.reason);
    const id = this.#nextId++;
    const answer = Promise.withResolvers<HandAnswer>();
    this.#pending.set(id, answer);
    this.#send(handFrame(id, { op, ...request }, bytes ?? none));
    return answer.promise;
  }
}

/**
 * The caller's files, through the hands of its front door.
 * @param takeDescriptor makes a descriptor of the front door one of this process
 */
export function callerFiles(
  hands: Hands,
  stdin: InputChannel,
  cwd: string,
  takeDescriptor: (number: number) => number,
): CallerFiles {
  return {
    cwd,
    async readFile(path, maxBytes, signal) {
      await using file = await openReader(hands, path, signal);
      const parts: Buffer[] = [];
      let length = 0;
      for await (const part of file) {
        length += part.length;
        if (length > maxBytes) {
          throw new HrunError('HAND_FAILED', `${printable(path)} is larger than ${maxBytes} bytes`);
        }
        parts.push(part);
      }
      return Buffer.concat(parts);
    },
    openRead: (path, signal) => openReader(hands, path, signal),
    openDescriptor: (path, options, signal) => openDescriptor(hands, takeDescriptor, path, options, signal),
    openWrite: (path, options, signal) => openWriter(hands, path, options, signal),
    async stat(path, { followLink }, signal) {
      const request = { path, follow: followLink };
      const { result } = await hands.call({ op: 'stat', subject: path, request, result: Stat }, signal);
      const { size, device, inode, ...rest } = result;
      return { ...rest, sizeBytes: size, device: String(device), inode: String(inode) };
    },
    async rename(from, to, signal) {
      await hands.call({ op: 'rename', subject: from, request: { from, to }, result: Nothing }, signal);
    },
    async unlink(path, signal) {
      await hands.call({ op: 'unlink', subject: path, request: { path }, result: Nothing }, signal);
    },
    async *readStdin(signal) {
      for await (const { offset, bytes } of stdin.read(0n, signal)) {
        yield Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        stdin.accept(offset + BigInt(bytes.length));
      }
    },
    async pack(request, signal) {
      const call = { op: 'pack', subject: request.path, request, result: Packed };
      return (await hands.call(call, signal)).result;
    },
    async unpack(request, signal) {
      const call = { op: 'unpack', subject: request.directory, request, result: Unpacked };
      return (await hands.call(call, signal)).result;
    },
    async makeDirectory(path, mode, signal) {
      const call = { op: 'makeDirectory', subject: path, request: { path, mode }, result: Nothing };
      await hands.call(call, signal);
    },
    async runProgram({ stdin: bytes, ...request }, signal) {
      const call = { op: 'run', subject: request.path, request, bytes, result: Ended };
      const { result, bytes: stdout } = await hands.call(call, signal);
      const { code, signal: killedBy, timedOut, stderr } = result;
      return { code: code ?? undefined, signal: killedBy ?? undefined, timedOut, stderr, stdout };
    },
    async become(request, signal) {
      await hands.call({ op: 'become', subject: request.path, request, result: Nothing }, signal);
      throw protocolError('a process that became another program, and answers');
    },
    async standIn(request, signal) {
      const call = { op: 'standIn', subject: 'the stand-in', request, result: Started };
      return (await hands.call(call, signal)).result;
    },
  };
}

type Open = z.infer<typeof Opened>;

async function open(
  hands: Hands,
  request: { readonly path: string; readonly flags: readonly string[]; readonly mode: number },
  signal: AbortSignal,
): Promise<Open> {
  const call = { op: 'open', subject: request.path, request, result: Opened };
  const opening = hands.call(call, new AbortController().signal);
  try {
    return (await abortable(opening, signal)).result;
  } catch (error) {
    // A handle that nobody will use must not stay open in the caller's process.
    if (signal.aborted)
      opening.then(({ result }) => close(hands, result.handle, request.path)).catch(() => {});
    throw error;
  }
}

async function close(hands: Hands, handle: number, path: string): Promise<void> {
  const call = { op: 'close', subject: path, request: { handle }, result: Nothing };
  await hands.call(call, new AbortController().signal);
}

async function openReader(hands: Hands, path: string, signal: AbortSignal): Promise<CallerReader> {
  const { handle, size, isDirectory } = await open(hands, { path, flags: ['read'], mode: 0 }, signal);
  return {
    sizeBytes: size,
    isDirectory,
    async *[Symbol.asyncIterator]() {
      const request = { handle, length: handChunkBytes };
      for (;;) {
        const call = { op: 'read', subject: path, request, result: Nothing };
        const { bytes } = await hands.call(call, signal);
        if (bytes.length === 0) return;
        yield bytes;
      }
    },
    [Symbol.asyncDispose]: () => close(hands, handle, path).catch(() => {}),
  };
}

async function openDescriptor(
  hands: Hands,
  takeDescriptor: (number: number) => number,
  path: string,
  { readonly }: { readonly readonly: boolean },
  signal: AbortSignal,
): Promise<CallerDescriptor> {
  const flags = readonly ? ['read', 'nofollow', 'claim'] : ['read', 'write', 'nofollow', 'claim'];
  const opened = await open(hands, { path, flags, mode: 0 }, signal);
  try {
    using undo = new DisposableStack();
    const fd = undo.adopt(taken(takeDescriptor, opened.fd, path), (taken) => closeSync(taken));
    const found = fstatSync(fd, { bigint: true });
    // by pid and number: what was opened, and nothing that took its place
    if (String(found.dev) !== opened.device || String(found.ino) !== opened.inode) {
      throw protocolError('a descriptor that is another than was opened');
    }
    if (!found.isFile() && !found.isBlockDevice()) {
      throw new HrunError(
        'INVALID_ARGUMENT',
        `${printable(path)} is neither a regular file nor a block device`,
      );
    }
    const owned = undo.move();
    return { fd, kind: found.isFile() ? 'file' : 'block', [Symbol.dispose]: () => owned.dispose() };
  } finally {
    await close(hands, opened.handle, path).catch(() => {});
  }
}

function taken(takeDescriptor: (number: number) => number, number: number, path: string): number {
  try {
    return takeDescriptor(number);
  } catch (cause) {
    throw new HrunError('HAND_FAILED', `${printable(path)} was opened, but the daemon may not take it over`, {
      cause,
      hint: 'without root this needs kernel.yama.ptrace_scope=0',
    });
  }
}

async function openWriter(
  hands: Hands,
  path: string,
  { exclusive, append, mode }: WriteOptions,
  signal: AbortSignal,
): Promise<CallerWriter> {
  const flags = append ? ['append', 'create'] : ['write', 'create', exclusive ? 'exclusive' : 'truncate'];
  const { handle } = await open(hands, { path, flags, mode }, signal);
  let closed = false;
  return {
    async write(bytes, writeSignal) {
      for (let at = 0; at < bytes.length; at += handChunkBytes) {
        const piece = bytes.subarray(at, at + handChunkBytes);
        const call = { op: 'write', subject: path, request: { handle }, bytes: piece, result: Nothing };
        await hands.call(call, writeSignal);
      }
    },
    async close() {
      closed = true;
      await close(hands, handle, path);
    },
    [Symbol.asyncDispose]: async () => {
      if (!closed) await close(hands, handle, path).catch(() => {});
    },
  };
}

function handFailed({ op, subject }: HandCall<unknown>, errno: number, message?: string): HrunError {
  const known = Object.values(constants.errno).includes(errno);
  const plain = known ? getSystemErrorMessage(-errno) : `errno ${errno}`;
  const text = message === undefined ? plain : printable(message, 2000);
  const cause = Object.assign(new Error(`${op}: ${text}`), {
    code: known ? getSystemErrorName(-errno) : 'UNKNOWN',
  });
  return new HrunError('HAND_FAILED', `${printable(subject, 1000)}: ${text}`, { cause });
}
