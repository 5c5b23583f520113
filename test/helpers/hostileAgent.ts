import { chmod, readdir, readFile, rename, stat } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Duplex, Writable } from 'node:stream';
import { FakeAgent } from './fakeAgent.ts';
import { GuestLink } from './guestLink.ts';
import type { HrunHost } from './hrunHost.ts';

/** What a guest that was taken over does with its end of the agent's channel. */
export type Hostility = (port: Socket, undo: DisposableStack) => void;

// biome-ignore lint/suspicious/noExplicitAny: a handler takes whatever call its method has
type Handlers = Record<string, (call: any, answer: any) => void>;

export const greeting = {
  protocol: 1,
  agentVersion: '0',
  kernelRelease: '6',
  bootId: 'b',
  personalized: true,
  agentStartBoottimeNs: 5n,
};

/** Speaks the contract, with answers of its own. */
export function answering(handlers: Handlers): Hostility {
  return (port, undo) => {
    const agent = undo.use(new FakeAgent({ hello: (_call, answer) => answer(null, greeting), ...handlers }));
    new GuestLink(port, (stream) => agent.serve(stream));
  };
}

/** Lets the process that is attached to say `messages`, one after the other, each when there is room for it. */
export function saying(messages: (open: object) => Iterable<object>): Hostility {
  return answering({
    attach: (call) => {
      call.once('data', (open: object) => {
        const iterator = messages(open)[Symbol.iterator]();
        const more = () => {
          for (let next = iterator.next(); !next.done; next = iterator.next()) {
            if (call.cancelled || call.destroyed) return;
            if (!call.write({ message: next.value })) return void call.once('drain', more);
          }
        };
        more();
      });
    },
  });
}

/** Opens the link and then sends bytes where HTTP/2 belongs. */
export function insteadOfHttp2(speak: (stream: Duplex) => void): Hostility {
  return (port) => void new GuestLink(port, speak);
}

/** Writes `chunk` again and again, as fast as it is taken, until the other end is gone. */
export function flood(target: Writable, chunk: Buffer): void {
  target.on('error', () => {});
  const more = () => {
    // other guests have their turn
    if (!target.destroyed && target.write(chunk)) setImmediate(more);
  };
  target.on('drain', more);
  more();
}

/** Puts `hostility` in the place of a container's agent: it is what the next daemon reaches. */
export async function takeOver(
  { root, ok }: HrunHost,
  container: string,
  hostility: Hostility,
): Promise<AsyncDisposable> {
  const id = await ok(['inspect', '-f', '{{.Id}}', container]);
  const record = JSON.parse(await readFile(join(root, 'containers', id, 'container.json'), 'utf8'));
  const path = join(record.state.vm.runDir, 'agent.sock');
  await rename(path, `${path}.true`);
  const undo = new DisposableStack();
  const server = createServer((port) => {
    undo.defer(() => port.destroy());
    port.on('error', () => {});
    hostility(port, undo);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  await chmod(path, 0o600);
  return {
    [Symbol.asyncDispose]: async () => {
      undo.dispose();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The most memory a process ever had resident, bytes. */
export async function peakBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s*(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

/** The files of a directory whose name fits. */
export async function filesOf(
  directory: string,
  pattern: RegExp,
): Promise<{ readonly inode: number; readonly bytes: number }[]> {
  const names = (await readdir(directory)).filter((name) => pattern.test(name));
  const found = await Promise.all(names.map((name) => stat(join(directory, name)).catch(() => undefined)));
  return found.flatMap((file) => (file === undefined ? [] : { inode: file.ino, bytes: file.size }));
}
