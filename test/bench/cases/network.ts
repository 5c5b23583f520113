import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { type HrunHost, newHrunHost } from '../../helpers/hrunHost.ts';
import { newNetns, type TestNetns } from '../../helpers/netns.ts';
import { writeToolImage } from '../../helpers/toolImage.ts';
import { alternate, type Bench, type Case, type Group } from '../bench.ts';

const execute = promisify(execFile);
const iperf = '/usr/bin/iperf3';
const seconds = 2;
const gateway = '10.213.0.1';
const veth = { outside: '198.51.100.1', inside: '198.51.100.2' } as const;
const name = 'network';

const Report = z.object({ end: z.object({ sum_received: z.object({ bits_per_second: z.number() }) }) });

/** One TCP stream, and the time of an answer, on every way that packets of a guest take, against a veth. */
export const network: Group = {
  name,
  about: 'packets between guest, host and another guest, and over a veth',
  async run(bench) {
    await using undo = new AsyncDisposableStack();
    const outside = undo.use(await newNetns());
    const inside = undo.use(await newNetns());
    joinByVeth(outside, inside);
    const host = undo.use(await newHrunHost({ netns: outside.netns }));
    undo.use(await serve(outside));
    undo.use(await serve(inside));
    await writeToolImage(join(host.directory, 'image'), iperf);
    await host.ok(['load', '--input', join(host.directory, 'image')]);
    for (const server of ['one', 'two'])
      await host.ok(['run', '-d', '--name', server, 'iperf3', iperf, '-s']);
    await host.ok([
      ...['run', '-d', '--name', 'user', '--network', 'user', 'iperf3', '/bin/busybox', 'sleep', '100000'],
    ]);
    const addressOf = (container: string) =>
      host.ok(['inspect', '--format', '{{.NetworkSettings.IPAddress}}', container]);
    const [one, two] = [await addressOf('one'), await addressOf('two')];
    const ways: readonly Way[] = [
      { from: 'guest', to: 'host', run: inContainer(host, 'one'), address: gateway },
      { from: 'host', to: 'guest', run: inNamespace(outside), address: one },
      { from: 'guest', to: 'guest', run: inContainer(host, 'one'), address: two },
      { from: 'guest', to: 'host, network user', run: inContainer(host, 'user'), address: veth.outside },
      { from: 'veth', to: 'host', run: inNamespace(inside), address: veth.outside },
      { from: 'host', to: 'veth', run: inNamespace(outside), address: veth.inside },
    ];
    await alternate(
      name,
      ways.flatMap((way) => casesOf(way, bench)),
      bench,
    );
  },
};

interface Way {
  readonly from: string;
  readonly to: string;
  readonly address: string;
  run(command: readonly string[]): Promise<string>;
}

/** The group's unit is that of the latency; throughput is recorded beside it. */
function casesOf({ from, to, address, run }: Way, { record }: Bench): Case[] {
  const way = `${from} to ${to}`;
  const throughput: Case = {
    name: `${way}, ${seconds} s of TCP`,
    sample: async () => {
      const started = performance.now();
      const report = Report.parse(JSON.parse(await run([iperf, '-J', '-t', String(seconds), '-c', address])));
      record.add(name, way, report.end.sum_received.bits_per_second / 1e6, 'Mbit/s', 'higher');
      return performance.now() - started;
    },
  };
  // passt answers no ping of a caller who may not send one
  if (to.includes('user')) return [throughput];
  const latency: Case = {
    name: `${way}, answer`,
    sample: async () =>
      averageMs(await run(['/bin/busybox', 'ping', '-q', '-c', '20', '-i', '0.05', address])),
  };
  return [throughput, latency];
}

function averageMs(said: string): number {
  const average = /= [\d.]+\/([\d.]+)\//.exec(said)?.[1];
  if (average === undefined) throw new Error(`ping said: ${said}`);
  return Number(average);
}

function inContainer(host: HrunHost, container: string): Way['run'] {
  return (command) => host.ok(['exec', container, ...command]);
}

function inNamespace({ netns }: TestNetns): Way['run'] {
  return async ([program = '', ...args]) => {
    // the child is started before this answers
    const running = { child: undefined as unknown as Promise<{ stdout: string }> };
    netns.run(() => {
      running.child = execute(program, args, { maxBuffer: 2 ** 24 });
    });
    return (await running.child).stdout;
  };
}

function joinByVeth(outside: TestNetns, inside: TestNetns): void {
  outside.run(
    'ip',
    'link',
    'add',
    'out0',
    'type',
    'veth',
    'peer',
    'name',
    'in0',
    'netns',
    String(inside.pid),
  );
  for (const [netns, device, address] of [
    [outside, 'out0', veth.outside],
    [inside, 'in0', veth.inside],
  ] as const) {
    netns.run('ip', 'addr', 'add', `${address}/24`, 'dev', device);
    netns.run('ip', 'link', 'set', device, 'up');
  }
  // the network user has a way out only where the host has one
  outside.run('ip', 'route', 'add', 'default', 'via', veth.inside);
}

async function serve({ netns }: TestNetns): Promise<AsyncDisposable> {
  const server: ChildProcess = netns.run(() =>
    spawn(iperf, ['-s', '--forceflush'], { stdio: ['ignore', 'pipe', 'inherit'] }),
  );
  if (server.stdout === null) throw new Error('iperf3 was started without a pipe');
  await once(server.stdout, 'data');
  server.stdout.resume();
  return {
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close');
      server.kill('SIGKILL');
      await closed;
    },
  };
}
