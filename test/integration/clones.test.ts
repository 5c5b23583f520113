import { copyFile, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect } from 'chai';
import { type HrunHost, newHrunHost } from '../helpers/hrunHost.ts';
import { tarOfDirectory } from '../helpers/images.ts';
import { temporaryDirectory } from '../helpers/tempDir.ts';

/** What a container can see of who its guest is. */
const identity = [
  'echo $(head -c 16 /dev/urandom | od -An -tx1)',
  'cat /proc/sys/kernel/random/boot_id',
  'cat /proc/sys/kernel/random/uuid',
  'hostname',
  // where the stack of a new process lies; its canaries come from the same generator
  'od -An -v -tx8 -w16 /proc/self/auxv | awk \'$1 == "0000000000000019" {print $2}\'',
];

describe('two microVMs of one shape', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost();
    await host.ok(['run', '--rm', 'busybox', 'true']);
  });
  after(() => host[Symbol.asyncDispose]());

  const ask = async (script: string, ...flags: string[]) =>
    (await host.ok(['run', '--rm', ...flags, 'busybox', 'sh', '-c', script])).split('\n');

  const cases = [
    { how: 'cloned for their container', ready: 0, flags: [] },
    { how: 'cloned, that waited in the pool', ready: 2, flags: [] },
    { how: 'booted with a share, that waited in the pool', ready: 2, flags: ['-v', '/usr:/shared:ro'] },
  ];
  for (const { how, ready, flags } of cases) {
    describe(how, () => {
      before(async () => {
        await host.ok(['pool', 'set', '--ready', String(ready)]);
        await host.ok(['run', '--rm', ...flags, 'busybox', 'true']);
        await poolFilled(host, ready);
      });

      it('share no random numbers, ids or names', async () => {
        const [first, second] = [
          await ask(identity.join(';'), ...flags),
          await ask(identity.join(';'), ...flags),
        ];
        expect(first).to.have.length(identity.length);
        for (const [index, value] of first.entries()) {
          expect(value, identity[index]).to.match(/\w\w/);
          expect(second[index], identity[index]).not.to.equal(value);
        }
      });

      it('have the time of the host', async () => {
        await poolFilled(host, ready);
        // busybox tells milliseconds only of the times of files
        const script = 'echo ready; read go; touch /now; stat -c %y /now';
        const child = host.start(['run', '-i', '--rm', ...flags, 'busybox', 'sh', '-c', script], {
          stdio: ['pipe', 'pipe', 'inherit'],
        });
        const lines = createInterface({ input: child.stdout ?? process.stdin })[Symbol.asyncIterator]();
        expect((await lines.next()).value).to.equal('ready');
        const askedMs = Date.now();
        child.stdin?.end('\n');
        const text = String((await lines.next()).value);
        const answeredMs = Date.now();
        const guestMs = Date.parse(`${text.slice(0, 23).replace(' ', 'T')}Z`);
        expect(guestMs).to.be.within(askedMs - 50, answeredMs + 50);
      });

      it('hold nothing of an earlier container: no process, no file, no connection', async () => {
        await ask(
          'echo the-secret > /dev/shm/secret; echo the-secret > /root/secret; sleep 1000 & true',
          ...flags,
        );
        await poolFilled(host, ready);
        const script =
          'ls /proc | grep -c "^[0-9]"; cat /dev/shm/secret /root/secret 2>/dev/null; cat /proc/net/tcp /proc/net/unix | wc -l';
        const [processes, sockets, ...more] = await ask(script, ...flags);
        expect(Number(processes)).to.be.within(2, 4);
        // the headings of both tables
        expect(Number(sockets)).to.equal(2);
        expect(more).to.deep.equal([]);
      });
    });
  }

  it('are told as clones', async () => {
    await host.ok(['pool', 'set', '--ready', '1']);
    await poolFilled(host, 1);
    const { stderr } = await host.hrun(['run', '--rm', '--timing', 'busybox', 'true']);
    expect(stderr).to.match(/^launch: pooled$/m);
  });

  it('leave the pool for good', async () => {
    await host.ok(['pool', 'set', '--ready', '1']);
    await poolFilled(host, 1);
    const name = (await host.ok(['run', '-d', 'busybox', 'sleep', '1000'])).slice(0, 12);
    const pid = await host.ok(['inspect', '--format', '{{.State.VmPid}}', name]);
    await host.ok(['rm', '-f', name]);
    await expectGone(Number(pid));
  });

  it('wait with the root of their image, for a container that starts with an empty disk of the usual size', async () => {
    await host.ok(['pool', 'set', '--ready', '1']);
    const launched = async (...args: string[]) => {
      await poolFilled(host, 1);
      const { stderr } = await host.hrun(['run', '--timing', ...args]);
      return /^launch: (\w+)/m.exec(stderr)?.[1];
    };
    expect(await launched('--name', 'kept', 'busybox', 'sh', '-c', 'cat /word; echo kept > /word')).to.equal(
      'pooled',
    );
    expect(await launched('--rm', '--storage-size', '64m', 'busybox', 'true')).to.equal('cloned');
    await host.ok(['start', '-a', 'kept']);
    expect(await host.ok(['logs', 'kept'])).to.equal('kept');
    await host.ok(['rm', 'kept']);
  });

  it('end with their image, however many wait', async () => {
    await using tree = await temporaryDirectory();
    await mkdir(join(tree.path, 'bin'));
    await copyFile('/bin/busybox', join(tree.path, 'bin/sh'));
    await host.ok(['import', '-', 'small'], { input: await tarOfDirectory(tree.path) });
    await host.ok(['pool', 'set', '--ready', '0']);
    await host.ok(['pool', 'set', '--ready', '2']);
    await host.ok(['run', '--rm', 'small', '/bin/sh', '-c', 'true']);
    await poolFilled(host, 2);
    expect(await emulators(host)).to.have.length(4);
    await host.ok(['rmi', 'small']);
    expect(await emulators(host)).to.have.length(2);
  });

  it('go with the pool: all that wait end when none shall wait', async () => {
    await host.ok(['pool', 'set', '--ready', '2']);
    await host.ok(['run', '--rm', 'busybox', 'true']);
    await poolFilled(host, 2);
    const waiting = await emulators(host);
    expect(waiting).to.have.length(2);
    await host.ok(['pool', 'set', '--ready', '0']);
    for (const pid of waiting) await expectGone(pid);
  });

  it('are replaced when they die while they wait', async () => {
    await host.ok(['pool', 'set', '--ready', '1']);
    await host.ok(['run', '--rm', 'busybox', 'true']);
    await poolFilled(host, 1);
    const [pid = 0] = await emulators(host);
    process.kill(pid, 'SIGKILL');
    // whether its end is known by then or not
    expect(await host.ok(['run', '--rm', 'busybox', 'echo', 'fine'])).to.equal('fine');
    await expectGone(pid);
    await poolFilled(host, 1);
  });
});

interface PoolStatus {
  readonly shelves: readonly { readonly ready: number }[];
}

/** The pool is refilled behind the back of commands: asked until it is full. */
async function poolFilled(host: HrunHost, ready: number): Promise<void> {
  for (;;) {
    const status = JSON.parse(await host.ok(['pool', 'status', '--format', 'json'])) as PoolStatus;
    if (status.shelves.every((shelf) => shelf.ready === ready)) return;
  }
}

/** Of this host's daemon, as its children or grandchildren of its keeper. */
async function emulators(host: HrunHost): Promise<number[]> {
  const daemon = await host.daemonPid();
  const children = await readFile(`/proc/${daemon}/task/${daemon}/children`, 'utf8');
  const pids = children.trim().split(' ').map(Number);
  const names = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')));
  return pids.filter((_, index) => names[index]?.startsWith('qemu'));
}

async function expectGone(pid: number): Promise<void> {
  for (;;) {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
    if (stat === '' || stat.slice(stat.lastIndexOf(')')).startsWith(') Z')) return;
  }
}
