import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { expect } from 'chai';
import { privateBytes } from '../../src/sys/processes.ts';
import { type HrunHost, newHrunHost } from '../helpers/hrunHost.ts';

const mebibyte = 1024 * 1024;
const touchedBytes = 200 * mebibyte;
/** PAGE_REPORTING_DELAY of the guest's mm/page_reporting.c */
const reportPauseMs = 2000;
/** dd keeps one block in memory, and writes to all of it. */
const touch = ['dd', 'if=/dev/zero', 'of=/dev/null', 'bs=200M', 'count=1'];

describe('memory that a guest gives back', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost();
    await host.ok(['run', '--rm', 'busybox', 'true']);
    await host.ok(['pool', 'set', '--ready', '0']);
  });
  after(() => host[Symbol.asyncDispose]());

  const emulatorOf = async (name: string) =>
    Number(await host.ok(['inspect', '--format', '{{.State.VmPid}}', name]));

  async function used(pid: number): Promise<number> {
    const bytes = await privateBytes(pid);
    if (bytes === undefined) throw new Error(`QEMU ${pid} is gone`);
    return bytes;
  }

  /** Runs `touch` in the container, and answers once most of what it took is the host's again. */
  async function touchAndGiveBack(name: string): Promise<void> {
    const pid = await emulatorOf(name);
    // what QEMU needs for translating the program, and the guest for its bookkeeping, is there already
    await host.ok(['exec', name, ...touch]);
    await settled(pid);
    const before = await used(pid);
    await host.ok(['exec', name, ...touch]);
    expect(await used(pid)).to.be.above(before + touchedBytes / 2);
    // reported by the guest a few seconds later; without it this never ends, and the test fails by its time-out
    while ((await used(pid)) > before + touchedBytes / 10);
  }

  /** Returns when the use of memory has not fallen for twice as long as a guest waits before it reports. */
  async function settled(pid: number): Promise<void> {
    let lowest = await used(pid);
    for (let sinceMs = performance.now(); performance.now() - sinceMs < 2 * reportPauseMs; ) {
      const now = await used(pid);
      if (now < lowest - mebibyte) [lowest, sinceMs] = [now, performance.now()];
    }
  }

  for (const flags of [['--cold'], []]) {
    it(`comes back to the host from a guest that was ${flags.length > 0 ? 'booted' : 'cloned'}`, async () => {
      const name = await host.ok(['run', '-d', ...flags, 'busybox', 'sleep', '1000']);
      await touchAndGiveBack(name);
      await host.ok(['rm', '-f', name]);
    });
  }

  it('does not change the template, nor any other clone', async () => {
    const running = await host.ok(['run', '-d', 'busybox', 'sleep', '1000']);
    const giver = await host.ok(['run', '-d', 'busybox', 'sleep', '1000']);
    const before = await templateHash(await host.daemonPid());
    await touchAndGiveBack(giver);
    await host.ok(['exec', giver, 'sh', '-c', `for i in 1 2 3; do ${touch.join(' ')}; done`]);
    expect(await templateHash(await host.daemonPid())).to.equal(before);
    const check = 'sha256sum /bin/busybox /bin/sh; cat /etc/passwd';
    const expected = await host.ok(['run', '--rm', '--cold', 'busybox', 'sh', '-c', check]);
    expect(await host.ok(['exec', running, 'sh', '-c', check])).to.equal(expected);
    expect(await host.ok(['run', '--rm', 'busybox', 'sh', '-c', check])).to.equal(expected);
    await host.ok(['rm', '-f', running, giver]);
  });
});

/** Of the RAM that clones map: the memfd that the daemon holds. */
async function templateHash(daemonPid: number): Promise<string> {
  const directory = `/proc/${daemonPid}/fd`;
  for (const fd of await readdir(directory)) {
    const target = await readlink(join(directory, fd)).catch(() => '');
    if (!target.startsWith('/memfd:hrun-ram')) continue;
    const hash = createHash('sha256');
    await pipeline(createReadStream(join(directory, fd)), hash);
    return hash.digest('hex');
  }
  throw new Error('the daemon holds no template');
}
