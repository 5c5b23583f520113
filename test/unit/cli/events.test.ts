import { expect } from 'chai';
import type { EventsRequest } from '../../../src/runtime/engine.ts';
import type { EngineEvent } from '../../../src/runtime/views.ts';
import { aId, nowMs, runCli } from '../../helpers/cli.ts';

const timeNs = BigInt(nowMs) * 1_000_000n + 5n;
const happened: EngineEvent[] = [
  { type: 'image', action: 'pull', id: 'busybox:latest', attributes: { name: 'busybox' }, timeNs },
  {
    type: 'container',
    action: 'create',
    id: aId,
    attributes: { name: 'web', image: 'busybox:1.36', role: 'test' },
    timeNs,
  },
  {
    type: 'container',
    action: 'exec_create: sh -c true',
    id: aId,
    attributes: { name: 'web', image: 'busybox:1.36', execID: 'e' },
    timeNs,
  },
];

async function events(...args: string[]) {
  const asked: EventsRequest[] = [];
  const outcome = await runCli(['events', ...args], {
    system: {
      async *events(request) {
        asked.push(request);
        yield* happened;
      },
    },
  });
  return { ...outcome, asked, lines: outcome.stdout.trimEnd().split('\n') };
}

describe('hrun events', () => {
  it('prints a line for each, as Docker does', async () => {
    const { lines } = await events();
    expect(lines[0]).to.match(
      /^2026-01-31T\d\d:\d\d:\d\d\.000000005(Z|[+-]\d\d:\d\d) image pull busybox:latest \(name=busybox\)$/,
    );
    expect(lines[1]).to.contain(`container create ${aId} (image=busybox:1.36, name=web, role=test)`);
  });

  it('prints JSON and templates with Docker’s names', async () => {
    const { lines } = await events('--format', 'json');
    expect(JSON.parse(lines[1] ?? '')).to.deep.include({
      status: 'create',
      id: aId,
      from: 'busybox:1.36',
      Type: 'container',
      Action: 'create',
      scope: 'local',
      time: nowMs / 1000,
    });
    const templated = await events('--format', '{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Time}}');
    expect(templated.lines[0]).to.equal(`image pull busybox ${nowMs / 1000}`);
    const json = await events('--format', '{{json .}}');
    expect(JSON.parse(json.lines[0] ?? '')).to.include({ status: 'pull', Type: 'image' });
  });

  for (const [filters, found] of [
    [['type=image'], [0]],
    [['container=web'], [1, 2]],
    [[`container=${aId.slice(0, 5)}`], [1, 2]],
    [['event=exec_create'], [2]],
    [
      ['event=pull', 'event=create'],
      [0, 1],
    ],
    [['image=busybox'], [0, 1, 2]],
    [['label=role=test'], [1]],
    [['container=web', 'event=create'], [1]],
    [['container=other'], []],
  ] as const) {
    it(`filters by ${filters.join(' and ')}`, async () => {
      const flags = filters.flatMap((filter) => ['--filter', filter]);
      const { stdout } = await events(...flags, '--format', '{{.Action}}');
      expect(stdout).to.equal(found.map((index) => `${happened[index]?.action}\n`).join(''));
    });
  }

  it('takes moments and durations', async () => {
    const { asked } = await events('--since', '10m', '--until', '2026-01-31T12:00:00Z');
    expect(asked).to.deep.equal([{ sinceMs: nowMs - 600_000, untilMs: nowMs }]);
    expect((await events()).asked).to.deep.equal([{}]);
  });

  it('refuses a filter and a time that it does not know', async () => {
    expect((await events('--filter', 'colour=red')).stderr).to.contain('colour');
    expect((await events('--since', 'yesterday')).stderr).to.contain('yesterday');
  });
});
