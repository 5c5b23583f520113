import { expect } from 'chai';
import { type HrunHost, newHrunHost } from '../../helpers/hrunHost.ts';
import { report } from '../../helpers/report.ts';

/** HRUN_MANY sets it; each has a microVM of its own. */
const count = Number(process.env.HRUN_MANY ?? 8);
/** Starts at a time. */
const width = 4;
const script = 'n=0; while :; do echo $n; n=$((n+1)); sleep 1; done';

describe('many containers over a crash of the daemon', () => {
  let host: HrunHost;

  before(async () => {
    host = await newHrunHost({ config: { poolReady: 0, agentTimeoutMs: 120_000, bootTimeoutMs: 300_000 } });
  });
  after(() => host[Symbol.asyncDispose]());

  it(`are all taken over by the next one, ${count} of them, and go on where they were`, async function () {
    this.timeout(120_000 + count * 20_000);
    const names = Array.from({ length: count }, (_, index) => `many${index}`);
    await inTurns(names, async (name) => {
      await host.ok(['run', '-d', '--name', name, '-m', '64m', 'busybox', 'sh', '-c', script]);
    });
    const pids = await pidsOf(names);
    const begun = performance.now();
    process.kill(await host.daemonPid(), 'SIGKILL');
    const running = await host.ok(['ps', '-q']);
    const tookMs = Math.round(performance.now() - begun);
    expect(running.split('\n')).to.have.length(count);
    expect(await pidsOf(names)).to.deep.equal(pids);
    await inTurns(names, async (name) => {
      const seen = await linesOf(name);
      // what it says after that arrives as well, and nothing twice
      let now = seen;
      while (now.length < seen.length + 2) now = await linesOf(name);
      expect(now).to.deep.equal(now.map((_, line) => String(line)));
      expect(await host.ok(['exec', name, 'echo', 'in'])).to.equal('in');
    });
    await report('chaos', 'many microVMs taken over by the next daemon', {
      times: count,
      'ms until it serves': tookMs,
    });
    await inTurns(names, async (name) => void (await host.ok(['rm', '-f', name])));
  });

  async function pidsOf(names: readonly string[]): Promise<readonly string[]> {
    return (await host.ok(['inspect', '-f', '{{.State.VmPid}} {{.State.Status}}', ...names])).split('\n');
  }

  async function linesOf(name: string): Promise<string[]> {
    return (await host.ok(['logs', name])).split('\n').filter((line) => line !== '');
  }
});

async function inTurns(names: readonly string[], work: (name: string) => Promise<void>): Promise<void> {
  const queue = names.values();
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (const name of queue) await work(name);
    }),
  );
}
