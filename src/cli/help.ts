import { type VerbGroup, verbEntries } from './verbs.ts';

const examples = `Examples:
  hrun run busybox echo hello          run a command in a fresh microVM
  hrun run -it --rm busybox            a shell in one
  hrun run -d --name web my/server     in the background; then logs, exec, stop
  hrun doctor                          what this machine can do, and what is missing`;

/** The page of `hrun --help`. */
export function rootHelp(): string {
  const verbs = verbEntries.filter(({ name }) => !name.startsWith('container '));
  return [
    'Usage:  hrun COMMAND',
    '',
    'Containers, each in its own microVM with its own Linux kernel',
    '',
    'Commands:',
    ...verbs.map(({ name, summary }) => `  ${name.padEnd(15)} ${summary}`),
    '',
    examples,
    '',
    "Run 'hrun COMMAND --help' for more about a command.",
    '',
  ].join('\n');
}

/** The page of `hrun image --help` and its like. */
export function groupHelp(group: VerbGroup): string {
  const lines = verbEntries.flatMap(({ name, aliases = [], summary }) => {
    const own = [name, ...aliases].find((candidate) => candidate.startsWith(`${group} `));
    return own === undefined ? [] : [`  ${own.slice(group.length + 1).padEnd(9)} ${summary}`];
  });
  return [
    `Usage:  hrun ${group} COMMAND`,
    '',
    'Commands:',
    ...lines,
    '',
    `Run 'hrun ${group} COMMAND --help' for more about a command.`,
    '',
  ].join('\n');
}
