import { Command, CommanderError, type Option } from 'commander';
import { counted } from '../base/text.ts';
import type { Context } from './deps.ts';
import { exitCodes } from './exitCodes.ts';
import { normaliseBooleans } from './flags.ts';
import type { VerbEntry } from './verb.ts';

const wrongCount = 'hrun.count';

/** Parses the arguments of one verb and runs it. Usage errors are told with a hint at its help. */
export async function runVerb(entry: VerbEntry, args: readonly string[], context: Context): Promise<number> {
  const verb = await entry.load();
  const helpText: string[] = [];
  const command = commandFor(entry, context, helpText);
  verb.configure(command);
  try {
    const argv = normaliseBooleans(args, command.options, entry.passThrough === true);
    command.parse(argv, { from: 'user' });
    checkCount(command, entry);
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === 'commander.helpDisplayed') {
      await context.print(helpText.join(''));
      return exitCodes.ok;
    }
    const reason = error.message.replace(/^error: /, '').replace(/\n\(Did/, ' (did');
    await context.complain(`hrun: ${reason}\nSee 'hrun ${entry.name} --help'.\n`);
    // Docker's: 125 belongs to options, not to the number of arguments.
    return error.code === wrongCount ? exitCodes.failed : exitCodes.hrunFailed;
  }
  return verb.run(command, context);
}

/** The command of an entry before its verb adds options; its help lands in `helpText`. */
function commandFor(entry: VerbEntry, context: Context, helpText: string[]): Command {
  const command = new Command(`hrun ${entry.name}`)
    .description(entry.summary)
    .usage(entry.usage)
    .argument('[args...]')
    .helpOption('--help', 'Print this help')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void helpText.push(text),
      writeErr: () => {}, // the error itself carries the message
      getOutHelpWidth: () => context.session.terminalSize?.columns ?? 100,
      getOutHasColors: () => false,
    })
    .configureHelp({
      visibleArguments: () => [],
      commandUsage: () => ` hrun ${entry.name} ${entry.usage}`,
      optionDescription,
    });
  if (entry.aliases !== undefined && entry.aliases.length > 0) {
    const names = [entry.name, ...entry.aliases].map((name) => `hrun ${name}`).join(', ');
    command.addHelpText('after', `\nAliases: ${names}`);
  }
  if (entry.passThrough === true) command.passThroughOptions();
  return command;
}

function optionDescription({ description, argChoices, defaultValue }: Option): string {
  const notes = [
    ...(argChoices === undefined ? [] : [argChoices.join(', ')]),
    ...(typeof defaultValue === 'string' ? [`default: ${defaultValue}`] : []),
  ];
  return notes.length === 0 ? description : `${description} (${notes.join('; ')})`;
}

function checkCount(command: Command, { args: [min, max], usage, name }: VerbEntry): void {
  const count = command.args.length;
  if (count >= min && count <= max) return;
  const bound = count < min ? min : max;
  const quantity = min === max ? 'exactly' : count < min ? 'at least' : 'at most';
  const wanted = max === 0 ? 'accepts no arguments' : `requires ${quantity} ${counted(bound, 'argument')}`;
  throw new CommanderError(1, wrongCount, `"hrun ${name}" ${wanted}\nUsage:  hrun ${name} ${usage}`);
}
