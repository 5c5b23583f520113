import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { type CrashHost, killAll, newCrashHost, type Participant } from '../../helpers/crashHost.ts';
import { resultOf } from '../../helpers/hrunHost.ts';
import { report } from '../../helpers/report.ts';

/** `make chaos` has everybody stand still for as long as a host that is paged out, or a laptop that sleeps. */
const standstillMs = process.env.HRUN_CHAOS_ROUNDS === undefined ? 3000 : 30_000;
const participants: readonly Participant[] = ['hrund', 'keeper', 'qemu', 'stand-in', 'share server'];
/** Reads the share all the time. */
const count = 40;
const script = `i=0; while [ $i -lt ${count} ]; do cat /d/word; i=$((i+1)); sleep 0.1; done; exit 3`;

describe('somebody who stands still for a while', () => {
  let crash: CrashHost;
  let tried = 0;

  before(async () => {
    crash = await newCrashHost({ network: true });
  });
  after(async () => {
    await report('chaos', `somebody stands still for ${standstillMs / 1000} s`, {
      times: tried,
      lies: 0,
      leaks: 0,
    });
    await crash[Symbol.asyncDispose]();
  });

  for (const who of participants) {
    it(`${who}: all goes on, with all output and the code`, async function () {
      this.timeout(180_000 + 4 * standstillMs);
      const { host } = crash;
      const word = join(crash.shared, 'word');
      await writeFile(word, 'word\n');
      const args = ['run', '--name', 'victim', '-v', `${crash.shared}:/d`, 'busybox', 'sh', '-c', script];
      const child = host.start(args, { stdio: ['ignore', 'pipe', 'pipe'] });
      const begun = new Promise<void>((resolve) => child.stdout?.once('data', () => resolve()));
      const result = resultOf(child);
      await Promise.race([begun, result]);
      const pids = await crash.pidsOf(who, 'victim');
      expect(pids).not.to.deep.equal([]);
      killAll(pids, 'SIGSTOP');
      try {
        const until = performance.now() + standstillMs;
        // whoever does not need them is served
        if (who !== 'hrund') {
          expect(await host.ok(['exec', 'other', 'echo', 'served'])).to.equal('served');
          expect((await crash.stateOf('victim'))?.Status).to.equal('running');
        }
        await sleep(Math.max(0, until - performance.now()));
      } finally {
        killAll(pids, 'SIGCONT');
      }
      expect(await result).to.deep.equal({ code: 3, stdout: 'word\n'.repeat(count), stderr: '' });
      expect(await crash.stateOf('victim')).to.include({ Status: 'exited', ExitCode: 3, Error: '' });
      await rm(word);
      await crash.checkRest();
      tried += 1;
    });
  }

  it('hrund is killed while a QEMU stands still: the next one serves the others, and tells the truth of that one', async function () {
    this.timeout(300_000);
    const { host } = crash;
    await host.ok(['run', '-d', '--name', 'victim', 'busybox', 'sleep', '100000']);
    const pids = await crash.pidsOf('qemu', 'victim');
    killAll(pids, 'SIGSTOP');
    killAll([await host.daemonPid()], 'SIGKILL');
    expect(await host.ok(['exec', 'other', 'echo', 'served'])).to.equal('served');
    const state = await crash.stateOf('victim');
    expect(state).to.include({ Status: 'exited', ExitCode: 137 });
    expect(state?.Error).to.contain('no longer obeys');
    await crash.checkRest();
  });
});
