import { Writable } from 'node:stream';
import { parseConfig } from '../../src/base/config.ts';
import type { ContainerId, Digest } from '../../src/base/ids.ts';
import { pathsFrom } from '../../src/base/paths.ts';
import type { CliDeps } from '../../src/cli/deps.ts';
import { runCommand } from '../../src/cli/main.ts';
import type { Session } from '../../src/cli/session.ts';
import type { AttachIo, InputPiece, OutputChannel } from '../../src/runtime/attachIo.ts';
import type { CallerFiles } from '../../src/runtime/callerFiles.ts';
import type {
  ContainerEngine,
  Engine,
  ImageEngine,
  PoolEngine,
  SystemEngine,
  VolumeEngine,
} from '../../src/runtime/engine.ts';
import type { NetworkEngine } from '../../src/runtime/networkVerbs.ts';
import type { OciEngine } from '../../src/runtime/oci/ociEngine.ts';

export const nowMs = Date.parse('2026-01-31T12:00:00Z');
export const aId = 'a'.repeat(64) as ContainerId;
export const imageId = `sha256:${'1'.repeat(64)}` as Digest;

/** What an engine of a test does: only the methods that the test is about. */
export interface FakeEngine {
  readonly containers?: Partial<ContainerEngine>;
  readonly images?: Partial<ImageEngine>;
  readonly system?: Partial<SystemEngine>;
  readonly oci?: Partial<OciEngine>;
  readonly networks?: Partial<NetworkEngine>;
  readonly volumes?: Partial<VolumeEngine>;
  readonly pool?: Partial<PoolEngine>;
}

export interface FakeCaller {
  readonly environment?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly files?: Readonly<Record<string, string>>;
  readonly isTerminal?: Partial<Session['isTerminal']>;
  readonly stdin?: string;
  /** What its front door does beside reading and writing files. */
  readonly hands?: Partial<CallerFiles>;
  readonly stopped?: () => void;
}

export interface CommandOutcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** What was written through the caller's hands. */
  readonly written: ReadonlyMap<string, string>;
}

/** Runs one command line against a fake engine, without daemon or front door. */
export async function runCli(
  argv: readonly string[],
  engine: FakeEngine = {},
  caller: FakeCaller = {},
): Promise<CommandOutcome> {
  const [stdout, stderr] = [recorder(), recorder()];
  const written = new Map<string, string>();
  const session: Session = {
    argv,
    environment: new Map(Object.entries(caller.environment ?? {})),
    cwd: caller.cwd ?? '/home/user',
    pid: 78,
    startedNs: undefined,
    isTerminal: { stdin: false, stdout: false, stderr: false, ...caller.isTerminal },
    terminalSize: undefined,
    stdin: inputOf(caller.stdin ?? ''),
    stdout: stdout.channel,
    stderr: stderr.channel,
    openNetns: () => {
      throw new Error('this caller has no network');
    },
    files: filesOf(caller.files ?? {}, written, caller.hands),
    signal: new AbortController().signal,
    onResize: () => ({ [Symbol.dispose]() {} }),
    onSignal: () => ({ [Symbol.dispose]() {} }),
    rawTerminal: () => ({ [Symbol.dispose]() {} }),
    async makeResumable() {},
    async settle() {},
  };
  const deps: CliDeps = {
    paths: pathsFrom({}, 0),
    config: async () => parseConfig('{}', 'config.json'),
    engine: async () => engineOf(engine),
    now: () => nowMs,
    daemon: {
      version: '1.2.3',
      pid: 77,
      uid: 0,
      startedAtMs: nowMs - 60_000,
      activeCommands: 1,
      stop: () => caller.stopped?.(),
    },
  };
  const code = await runCommand(session, deps);
  return { code, stdout: stdout.text(), stderr: stderr.text(), written };
}

const nothingHandedOver: OciEngine['handedOver'] = {
  runtimeOf: () => undefined,
  inScope: async () => [],
  add: async () => {},
  forget: async () => {},
};

function engineOf(fake: FakeEngine): Engine {
  const strict = <T extends object>(part: Partial<T> | undefined): T =>
    new Proxy((part ?? {}) as T, {
      get(target, name) {
        if (name in target) return target[name as keyof T];
        throw new Error(`the engine was asked for ${String(name)}`);
      },
    });
  return {
    containers: strict<ContainerEngine>(fake.containers),
    images: strict<ImageEngine>(fake.images),
    networks: strict<NetworkEngine>(fake.networks),
    volumes: strict<VolumeEngine>(fake.volumes),
    system: strict<SystemEngine>({ damages: () => [], ...fake.system }),
    oci: strict<OciEngine>({ has: () => false, handedOver: nothingHandedOver, ...fake.oci }),
    pool: strict<PoolEngine>(fake.pool),
    close: async () => {},
  };
}

function recorder(): { channel: OutputChannel; text: () => string } {
  const parts: Buffer[] = [];
  const add = (bytes: Uint8Array) => void parts.push(Buffer.from(bytes));
  const length = () => BigInt(Buffer.concat(parts).length);
  const channel: OutputChannel = {
    async write(bytes) {
      add(bytes);
    },
    get offset() {
      return length();
    },
    get written() {
      return length();
    },
    writtenBeyond: async () => length(),
    closed: new AbortController().signal,
    writable: new Writable({
      write(chunk, _encoding, done) {
        add(chunk);
        done();
      },
    }),
  };
  return { channel, text: () => Buffer.concat(parts).toString() };
}

function inputOf(text: string): NonNullable<AttachIo['stdin']> {
  return {
    async *read(from: bigint): AsyncGenerator<InputPiece> {
      const bytes = Buffer.from(text).subarray(Number(from));
      if (bytes.length > 0) yield { offset: from, bytes };
    },
    accept() {},
    close() {},
  };
}

function filesOf(
  present: Readonly<Record<string, string>>,
  written: Map<string, string>,
  more: Partial<CallerFiles> = {},
): CallerFiles {
  const missing = (path: string) =>
    Object.assign(new Error(`${path}: no such file or directory`), { code: 'ENOENT' });
  const content = (path: string) => {
    const text = present[path];
    if (text === undefined) throw missing(path);
    return Buffer.from(text);
  };
  const unexpected = async (): Promise<never> => {
    throw new Error('not in this test');
  };
  return {
    cwd: '/home/user',
    readFile: async (path) => content(path),
    async openRead(path) {
      const bytes = content(path);
      return {
        sizeBytes: bytes.length,
        isDirectory: false,
        async *[Symbol.asyncIterator]() {
          yield bytes;
        },
        async [Symbol.asyncDispose]() {},
      };
    },
    async openWrite(path) {
      written.set(path, '');
      return {
        async write(bytes) {
          written.set(path, (written.get(path) ?? '') + Buffer.from(bytes).toString());
        },
        async close() {},
        async [Symbol.asyncDispose]() {},
      };
    },
    stat: unexpected,
    openDescriptor: unexpected,
    async rename(from, to) {
      written.set(to, written.get(from) ?? '');
      written.delete(from);
    },
    async unlink(path) {
      written.delete(path);
    },
    async *readStdin() {},
    makeDirectory: unexpected,
    runProgram: unexpected,
    become: unexpected,
    ...more,
    pack: unexpected,
    unpack: unexpected,
    standIn: unexpected,
  };
}
