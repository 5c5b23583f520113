import { expect } from 'chai';
import type { PoolPolicy, PoolStatus } from '../../../src/pool/pool.ts';
import type { RunRequest } from '../../../src/runtime/runRequest.ts';
import { aId, type FakeEngine, runCli } from '../../helpers/cli.ts';

/** An engine whose pooled launches take 1 ms, clones 2 ms, boots 3 ms. */
function fakeEngine() {
  let ready = 2;
  const launched: string[] = [];
  const removed: string[] = [];
  const status = () => ({ policy: { ready } as PoolPolicy, shelves: [], underPressure: false }) as PoolStatus;
  const engine: FakeEngine = {
    pool: {
      status,
      filled: async () => {},
      async setPolicy(change) {
        ready = change.ready ?? ready;
        return status();
      },
    },
    containers: {
      async run({ create, detach }: RunRequest) {
        if (detach) return { kind: 'detached', containerId: aId };
        const kind = create.cold ? 'cold' : ready > 0 ? 'pooled' : 'cloned';
        launched.push(`${kind} ${create.command.join(' ')}`);
        const durationMs = { pooled: 1, cloned: 2, cold: 3 }[kind];
        const timing = { launch: { kind }, phases: [{ name: 'all', durationMs }] } as const;
        return { kind: 'exited', containerId: aId, exitCode: 0, timing };
      },
      exec: async () => ({ kind: 'exited', containerId: aId, exitCode: 0 }),
      async remove(name) {
        removed.push(name);
      },
    },
  };
  return { engine, launched, removed, ready: () => ready };
}

describe('hrun bench', () => {
  it('launches in turn, leaves nothing and the pool as it was', async () => {
    const { engine, launched, removed, ready } = fakeEngine();
    const { stdout, code } = await runCli(
      ['bench', '--rounds', '2', '--format', 'json', 'img', 'sh', '-c', 'x'],
      engine,
    );
    expect(code).to.equal(0);
    const { samplesMs, ...asked } = JSON.parse(stdout);
    expect(asked).to.deep.equal({ image: 'img', command: ['sh', '-c', 'x'], rounds: 2 });
    expect(samplesMs).to.deep.include({ cold: [3, 3], cloned: [2, 2], pooled: [1, 1] });
    expect(samplesMs.exec).to.have.length(2);
    expect(launched.slice(2, 5)).to.deep.equal(['cold sh -c x', 'cloned sh -c x', 'pooled sh -c x']);
    expect([removed, ready()]).to.deep.equal([[aId], 2]);
  });

  it('shows percentiles', async () => {
    const { stdout } = await runCli(['bench', '--rounds', '1'], fakeEngine().engine);
    expect(stdout).to.match(/^LAUNCH +ROUNDS +MIN +P50 +P90 +MAX *\ncold +1 +3\.0 ms/);
  });
});
