import { ociVersionMax } from '../../oci/runtimeSpec.ts';
import { globalFlags } from './globalFlags.ts';
import type { FlagSpec } from './goFlags.ts';
import type { OciVerb } from './ociVerb.ts';
import { ociVerbs } from './verbs.ts';

/** What `dockerd` and podman read of `--version`: name, commit and spec, a line each. */
export function ociVersionText(version: string): string {
  return `hrun version ${version}\ncommit: ${version}\nspec: ${ociVersionMax}\n`;
}

export function ociHelp(): string {
  const verbs = ociVerbs.map(({ name, summary }) => `   ${name.padEnd(12)}${summary}`);
  return [
    'NAME:\n   hrun - OCI runtime in which every container boots inside its own microVM\n',
    'USAGE:\n   hrun [global options] command [command options] [arguments...]\n',
    `COMMANDS:\n${verbs.join('\n')}\n`,
    `GLOBAL OPTIONS:\n${flagLines(globalFlags)}\n`,
  ].join('\n');
}

export function ociVerbHelp({ name, summary, usage, flags }: OciVerb): string {
  const options = flags.length === 0 ? [] : [`\nOPTIONS:\n${flagLines(flags)}\n`];
  return [`NAME:\n   hrun ${name} - ${summary}\n`, `\nUSAGE:\n   hrun ${name} ${usage}\n`, ...options].join(
    '',
  );
}

function flagLines(flags: readonly FlagSpec[]): string {
  return flags
    .map(({ name, aliases = [], kind, description }) => {
      const names = [name, ...aliases].map((one) => (one.length === 1 ? `-${one}` : `--${one}`)).join(', ');
      return `   ${`${names}${kind === 'bool' ? '' : ' value'}`.padEnd(34)} ${description}`;
    })
    .join('\n');
}
