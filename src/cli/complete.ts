import { Command, type Option } from 'commander';
import { isHrunError } from '../base/errors.ts';
import type { Context } from './deps.ts';
import { exitCodes } from './exitCodes.ts';
import { shells } from './host/completion.ts';
import { familiarRepository } from './render/imageRows.ts';
import type { VerbEntry } from './verb.ts';
import { entryOfWords, verbEntries, verbGroups } from './verbs.ts';

interface Candidate {
  readonly value: string;
  readonly about: string;
}

/** For the scripts of `hrun completion`: what may stand for the last of these words of a command line, unfinished. */
export async function complete(words: readonly string[], context: Context): Promise<number> {
  const begun = words.at(-1) ?? '';
  const all = await candidates(words.slice(0, -1), begun, context);
  const fitting = all.filter(({ value }) => value.startsWith(begun));
  await context.print(fitting.map(({ value, about }) => `${value}\t${about}\n`).join(''));
  return exitCodes.ok;
}

async function candidates(words: readonly string[], begun: string, context: Context): Promise<Candidate[]> {
  const found = entryOfWords(words);
  if (found === undefined) return verbCandidates(words);
  const { entry, rest } = found;
  const options = await optionsOf(entry);
  const { positionals, expecting } = readWords(rest, options);
  if (expecting !== undefined) return (expecting.argChoices ?? []).map((value) => ({ value, about: '' }));
  // What follows the image of `run` is another program's command line.
  if (entry.passThrough === true && positionals > 0) return [];
  if (begun.startsWith('-')) return optionCandidates(options);
  if (entry.name === 'completion') return shells.map((value) => ({ value, about: '' }));
  if (positionals >= entry.args[1]) return [];
  return await objectCandidates(entry, context);
}

/** The first word, or the second one of a group. */
function verbCandidates(words: readonly string[]): Candidate[] {
  const [group, ...more] = words;
  if (more.length > 0) return [];
  if (group === undefined) {
    const verbs = verbEntries.filter(({ name }) => !name.includes(' '));
    return [
      ...verbs.map(({ name, summary }) => ({ value: name, about: summary })),
      ...verbGroups.map((name) => ({ value: name, about: `Commands about: ${name}` })),
    ];
  }
  return verbEntries.flatMap(({ name, aliases = [], summary }) =>
    [name, ...aliases]
      .filter((candidate) => candidate.startsWith(`${group} `))
      .map((candidate) => ({ value: candidate.slice(group.length + 1), about: summary })),
  );
}

async function optionsOf(entry: VerbEntry): Promise<readonly Option[]> {
  const command = new Command();
  (await entry.load()).configure(command);
  return command.options.filter(({ hidden }) => !hidden);
}

function optionCandidates(options: readonly Option[]): Candidate[] {
  const own = options.flatMap(({ long, description }) =>
    long == null ? [] : [{ value: long, about: description }],
  );
  return [...own, { value: '--help', about: 'Print this help' }];
}

/** How many arguments there are, and the option that the next word is the value of. */
function readWords(
  words: readonly string[],
  options: readonly Option[],
): { readonly positionals: number; readonly expecting: Option | undefined } {
  let positionals = 0;
  let expecting: Option | undefined;
  for (const word of words) {
    if (expecting !== undefined) expecting = undefined;
    else if (!word.startsWith('-') || word === '-') positionals += 1;
    else {
      const option = word.startsWith('--')
        ? options.find(({ long }) => long === word)
        : options.find(({ short }) => short === `-${word.at(-1)}`);
      if (option?.required === true && !word.includes('=')) expecting = option;
    }
  }
  return { positionals, expecting };
}

/** Containers, images and volumes by the words of the verb's usage. Without an engine there is nothing to offer. */
async function objectCandidates({ name, usage }: VerbEntry, context: Context): Promise<Candidate[]> {
  try {
    const engine = await context.deps.engine();
    const found: Candidate[] = [];
    if (/CONTAINER|NAME\|ID/.test(usage)) {
      const wanted = statusWanted(name);
      for (const container of await engine.containers.list({ withSize: false }, context.signal)) {
        if (wanted !== undefined && (container.status === 'running') !== wanted) continue;
        const value = name === 'cp' ? `${container.name}:` : container.name;
        found.push({ value, about: container.image });
      }
    }
    if (/IMAGE|NAME\|ID/.test(usage)) {
      for (const { repository, tag } of await engine.images.list(context.signal)) {
        if (repository === undefined) continue;
        const value = `${familiarRepository(repository)}${tag === undefined ? '' : `:${tag}`}`;
        found.push({ value, about: 'image' });
      }
    }
    if (/VOLUME/.test(usage)) {
      found.push(
        ...engine.volumes.list().map(({ volume }) => ({ value: volume.name, about: volume.driver })),
      );
    }
    return found;
  } catch (error) {
    if (!isHrunError(error) || context.signal.aborted) throw error;
    return [];
  }
}

/** True: only containers that run; undefined: all. */
function statusWanted(verb: string): boolean | undefined {
  if (['exec', 'attach', 'stop', 'kill', 'top'].includes(verb)) return true;
  return verb === 'start' ? false : undefined;
}
