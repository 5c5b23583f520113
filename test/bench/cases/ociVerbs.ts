import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeBundle } from '../../helpers/bundle.ts';
import { hrunPath } from '../../helpers/hrunHost.ts';
import { type Bench, type Group, timed } from '../bench.ts';
import { mustRun, wallMs } from '../processes.ts';

/** Verbs that start no microVM, and so have no reason to be slower than runc's. */
export const quickVerbs = ['state', 'list', 'kill', 'delete'] as const;
const runtimes = ['runc', 'hrun'] as const;
type Runtime = (typeof runtimes)[number];

export const verbCase = (runtime: Runtime, verb: string) => `${runtime} ${verb}`;

/** runc's verbs, one by one, without a manager. */
export const ociVerbs: Group = {
  name: 'verb',
  about: "runc's verbs, one by one; what `create` spends its time on",
  async run(bench) {
    const { host, record } = bench;
    const bundle = await makeBundle(join(host.directory, 'bundle'), { args: ['sleep', '100000'] });
    const roots = { runc: join(host.directory, 'runc-root'), hrun: join(host.directory, 'hrun-root') };
    const argvOf = (runtime: Runtime, ...words: readonly string[]) => [
      runtime === 'hrun' ? hrunPath : runtime,
      '--root',
      roots[runtime],
      ...words,
    ];
    const measure = async (runtime: Runtime, verb: string, ...words: readonly string[]) =>
      record.add(
        ociVerbs.name,
        verbCase(runtime, verb),
        await timed(() => runQuietly(argvOf(runtime, verb, ...words), bench)),
      );
    for (let round = 0; round < bench.rounds; round++) {
      for (const runtime of round % 2 === 0 ? runtimes : runtimes.toReversed()) {
        bench.interrupted.throwIfAborted();
        await measure(runtime, 'create', '--bundle', bundle, 'bench');
        await measure(runtime, 'start', 'bench');
        for (const [verb, ...words] of [['state', 'bench'], ['list'], ['kill', 'bench', '0']] as const) {
          const argv = argvOf(runtime, verb, ...words);
          record.add(ociVerbs.name, verbCase(runtime, verb), await wallMs(argv, host.directory, host.env));
        }
        const { pid }: { pid: number } = JSON.parse(
          await mustRun(argvOf(runtime, 'state', 'bench'), host.env),
        );
        await mustRun(argvOf(runtime, 'kill', 'bench', 'KILL'), host.env);
        // As managers do, who learn of the end from their child: how long that takes is no matter of `delete`.
        while (await isAlive(pid)) await sleep(1);
        await measure(runtime, 'delete', 'bench');
      }
    }
    await addPhases(bundle, bench);
  },
};

/** With stdio that a container may keep. @throws for an exit code other than 0 */
async function runQuietly(argv: readonly string[], { host }: Bench): Promise<void> {
  const [program = '', ...args] = argv;
  const child = host.startOther(program, args, 'ignore');
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`${argv.join(' ')} gave ${code}`);
}

/** One that nobody has waited for yet is as good as gone. */
async function isAlive(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') X');
  return !['Z', 'X'].includes(status.slice(status.lastIndexOf(')') + 2)[0] ?? '');
}

/** From the events of the launches: what each phase of `create` took. */
async function addPhases(bundle: string, { host, record }: Bench): Promise<void> {
  const filters = ['--filter', 'event=launch', '--filter', 'container=bench'];
  const text = await host.ok(['events', '--since', '24h', '--until', '0s', ...filters, '--format', 'json']);
  for (const line of text.split('\n').filter((one) => one !== '')) {
    const { Actor }: { Actor: { Attributes: Record<string, string> } } = JSON.parse(line);
    if (Actor.Attributes.bundle !== bundle) continue;
    for (const [name, value] of Object.entries(Actor.Attributes)) {
      if (!name.startsWith('phase.')) continue;
      record.add(ociVerbs.name, `hrun create: ${name.slice('phase.'.length)}`, Number(value));
    }
  }
}
