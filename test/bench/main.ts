import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { newHrunHost } from '../helpers/hrunHost.ts';
import { type Bench, type Group, Recorder } from './bench.ts';
import { bursts } from './cases/bursts.ts';
import { commands } from './cases/commands.ts';
import { density } from './cases/density.ts';
import { execs } from './cases/execs.ts';
import { imageReads } from './cases/imageReads.ts';
import { jail } from './cases/jail.ts';
import { launches } from './cases/launches.ts';
import { managers } from './cases/managers.ts';
import { network } from './cases/network.ts';
import { ociVerbs } from './cases/ociVerbs.ts';
import { unpacking } from './cases/unpack.ts';
import { volumes } from './cases/volumes.ts';
import { compareResults } from './compare.ts';
import { hostFacts } from './hostFacts.ts';
import { ratiosOf } from './ratios.ts';
import { type Results, ResultsSchema } from './results.ts';
import { plot } from './svg.ts';
import { renderResults } from './table.ts';

const usage = `Measures hrun against raw QEMU, podman and runc, in turn, so that a busy host hurts all alike.

  node test/bench/main.ts [--rounds N] [--only GROUP,…] [--density N] [--output DIRECTORY]
  node test/bench/main.ts --compare BEFORE.json AFTER.json
`;

const groups: readonly Group[] = [
  ...[launches, jail, execs, bursts, density, unpacking, imageReads, volumes, network, commands],
  ...[managers, ociVerbs],
];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: process.env.ROUNDS ?? '20' },
    only: { type: 'string', default: groups.map(({ name }) => name).join(',') },
    density: { type: 'string', default: process.env.DENSITY ?? '20' },
    output: { type: 'string', default: resolve(import.meta.dirname, '../../bench-results') },
    compare: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) process.stdout.write(usage);
else if (values.compare) process.stdout.write(await compareFiles(positionals));
else process.exitCode = await measure();

async function compareFiles([before, after]: readonly string[]): Promise<string> {
  if (before === undefined || after === undefined) throw new Error(usage);
  const read = async (path: string) => ResultsSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  return compareResults(await read(before), await read(after));
}

async function measure(): Promise<number> {
  const startedAt = new Date().toISOString();
  const record = new Recorder((line) => process.stderr.write(`${line}\n`));
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => interrupted.abort(new Error(`interrupted by ${signal}`)));
  }
  await using host = await newHrunHost();
  await host.ok(['run', '--rm', 'busybox', 'true']);
  const facts = await hostFacts(host);
  const bench: Bench = {
    host,
    rounds: positive('--rounds', values.rounds),
    density: positive('--density', values.density),
    interrupted: interrupted.signal,
    accelerator: facts.accelerator === 'kvm' ? 'kvm' : 'tcg',
    record,
  };
  for (const group of chosenGroups()) {
    if (interrupted.signal.aborted) break;
    process.stderr.write(`measuring: ${group.about}\n`);
    try {
      await group.run(bench);
    } catch (error) {
      record.fail(group.name, 'the whole group', error);
    }
  }
  const results: Results = {
    version: 1,
    startedAt,
    finishedAt: new Date().toISOString(),
    command: process.argv.slice(1).join(' '),
    rounds: bench.rounds,
    host: facts,
    series: record.series,
    failures: record.failures,
    missing: record.missing,
    ratios: ratiosOf(record),
  };
  await write(results);
  return results.failures.length === 0 ? 0 : 1;
}

async function write(results: Results): Promise<void> {
  const directory = join(values.output, results.startedAt.replaceAll(':', '-'));
  await mkdir(directory, { recursive: true });
  const path = join(directory, 'results.json');
  const text = renderResults(results);
  await writeFile(path, `${JSON.stringify(results, undefined, 2)}\n`);
  await writeFile(join(directory, 'table.txt'), text);
  const plots = Map.groupBy(
    results.series.filter(({ samples }) => samples.length > 1),
    ({ group, unit }) => `${group}-${unit.replaceAll(/[^a-zA-Z]/g, '')}`,
  );
  for (const [name, series] of plots) {
    const about = groups.find((group) => group.name === series[0]?.group)?.about ?? name;
    await writeFile(join(directory, `${name}.svg`), plot(about, series));
  }
  process.stdout.write(`${text}\nraw samples, host facts and plots: ${directory}\n`);
}

function chosenGroups(): readonly Group[] {
  return values.only.split(',').map((name) => {
    const group = groups.find((candidate) => candidate.name === name);
    if (group === undefined) throw new Error(`no group "${name}"\n${usage}`);
    return group;
  });
}

function positive(flag: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${flag} ${text}: not a positive number`);
  return value;
}
