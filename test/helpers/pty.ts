import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, createReadStream, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type Koffi from 'koffi';

const run = promisify(execFile);
const TIOCSWINSZ = 0x5414;

/** A pseudo terminal whose other end is the controlling terminal of one command. */
export interface PtyCommand extends AsyncDisposable {
  /** Everything that the command has written so far. */
  readonly text: string;
  type(text: string): void;
  /** As a terminal emulator does when its window changes. */
  resize(rows: number, columns: number): void;
  /** Waits until what was written since the last match matches. */
  until(pattern: RegExp): Promise<RegExpExecArray>;
  /** `stty -a` of the command's end. */
  settings(): Promise<string>;
  /** Waits until the command has made its end raw: what is typed before is for the line discipline here. */
  untilRaw(): Promise<void>;
  /** The exit code, when the command has ended. */
  exit(): Promise<number | null>;
}

/** Starts a command as the leader of a session on a terminal of its own. */
export function startOnPty(
  argv: readonly string[],
  { rows, columns, env }: { rows: number; columns: number; env: NodeJS.ProcessEnv },
): PtyCommand {
  const { master, slave, path } = openPty(rows, columns);
  const child = spawn('setsid', ['--ctty', ...argv], { env, stdio: [slave, slave, slave] });
  closeSync(slave);
  let text = '';
  let matchedTo = 0;
  const changed = new Set<() => void>();
  const reader = createReadStream('', { fd: master, autoClose: false });
  reader.setEncoding('utf8').on('data', (chunk) => {
    text += chunk;
    for (const wake of changed) wake();
  });
  reader.on('error', () => {}); // EIO: the last holder of the other end is gone
  const exited = once(child, 'exit');
  const settings = async () => (await run('stty', ['-a', '-F', path])).stdout;
  return {
    get text() {
      return text;
    },
    type: (keys) => void writeSync(master, keys),
    resize: (newRows, newColumns) => setSize(master, newRows, newColumns),
    async until(pattern) {
      for (;;) {
        const found = new RegExp(pattern, pattern.flags.replace('g', '')).exec(text.slice(matchedTo));
        if (found !== null) {
          matchedTo += found.index + found[0].length;
          return found;
        }
        if (child.exitCode !== null) throw new Error(`ended without ${pattern}: ${JSON.stringify(text)}`);
        const { promise, resolve } = Promise.withResolvers<void>();
        changed.add(resolve);
        await Promise.race([promise, exited]);
        changed.delete(resolve);
      }
    },
    settings,
    async untilRaw() {
      while (!/-icanon/.test(await settings())) await sleep(10);
    },
    async exit() {
      await exited;
      return child.exitCode;
    },
    async [Symbol.asyncDispose]() {
      await ended(child, exited);
      closeSync(master);
    },
  };
}

async function ended(child: ChildProcess, exited: Promise<unknown>): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  await exited;
}

interface PtyCalls {
  openpty(master: Int32Array, slave: Int32Array, name: Buffer, termios: null, size: Uint16Array): number;
  ioctl(fd: number, request: number, size: Uint16Array): number;
}

let loaded: PtyCalls | undefined;

function calls(): PtyCalls {
  if (loaded === undefined) {
    const koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
    const libc = koffi.load(null);
    loaded = {
      openpty: libc.func('int openpty(int *master, int *slave, void *name, void *termios, void *size)'),
      ioctl: libc.func('int ioctl(int fd, unsigned long request, void *size)'),
    };
  }
  return loaded;
}

function openPty(rows: number, columns: number): { master: number; slave: number; path: string } {
  const [master, slave, name] = [new Int32Array(1), new Int32Array(1), Buffer.alloc(128)];
  const size = Uint16Array.of(rows, columns, 0, 0);
  if (calls().openpty(master, slave, name, null, size) !== 0) throw new Error('no pseudo terminal');
  const path = name.toString('latin1', 0, name.indexOf(0));
  return { master: master[0] ?? -1, slave: slave[0] ?? -1, path };
}

function setSize(master: number, rows: number, columns: number): void {
  if (calls().ioctl(master, TIOCSWINSZ, Uint16Array.of(rows, columns, 0, 0)) !== 0) {
    throw new Error('the size of the terminal cannot be set');
  }
}
