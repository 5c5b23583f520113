import { HrunError } from '../base/errors.ts';
import { printable } from '../base/text.ts';

/** The `config` object of an image, as the image-spec spells it. */
export interface ConfigDocument {
  User?: string;
  Env?: string[];
  Entrypoint?: string[];
  Cmd?: string[];
  WorkingDir?: string;
  StopSignal?: string;
  Labels?: Record<string, string>;
  Volumes?: Record<string, object>;
  ExposedPorts?: Record<string, object>;
}

type Change = (config: ConfigDocument, argument: string, line: string) => void;

const changes: Readonly<Record<string, Change>> = {
  CMD: (config, argument) => {
    config.Cmd = commandOf(argument);
  },
  ENTRYPOINT: (config, argument) => {
    config.Entrypoint = commandOf(argument);
  },
  USER: (config, argument) => {
    config.User = argument;
  },
  WORKDIR: (config, argument) => {
    config.WorkingDir = argument;
  },
  STOPSIGNAL: (config, argument) => {
    config.StopSignal = argument;
  },
  ENV: (config, argument, line) => {
    for (const [name, value] of pairsOf(argument, line)) {
      config.Env = [
        ...(config.Env ?? []).filter((entry) => !entry.startsWith(`${name}=`)),
        `${name}=${value}`,
      ];
    }
  },
  LABEL: (config, argument, line) => {
    config.Labels = { ...config.Labels, ...Object.fromEntries(pairsOf(argument, line)) };
  },
  VOLUME: (config, argument) => {
    const paths = jsonList(argument) ?? wordsOf(argument);
    config.Volumes = { ...config.Volumes, ...Object.fromEntries(paths.map((path) => [path, {}])) };
  },
  EXPOSE: (config, argument, line) => {
    for (const port of wordsOf(argument)) {
      const match = /^(\d{1,5})(\/(?:tcp|udp|sctp))?$/.exec(port);
      if (match === null) throw wrong(line, `"${printable(port)}" is not a port`);
      config.ExposedPorts = { ...config.ExposedPorts, [`${match[1]}${match[2] ?? '/tcp'}`]: {} };
    }
  },
};

/**
 * Applies lines of a Dockerfile, as `--change` of import has them.
 * @throws HrunError INVALID_ARGUMENT naming the line
 */
export function applyChanges(config: ConfigDocument, lines: readonly string[]): ConfigDocument {
  const result = { ...config };
  for (const line of lines) {
    const [, keyword = '', argument = ''] = /^\s*(\w+)\s+(.*?)\s*$/s.exec(line) ?? [];
    const change = changes[keyword.toUpperCase()];
    if (change === undefined || argument === '') {
      throw wrong(line, `expected one of ${Object.keys(changes).join(', ')} with a value`);
    }
    change(result, argument, line);
  }
  return result;
}

function commandOf(argument: string): string[] {
  return jsonList(argument) ?? ['/bin/sh', '-c', argument];
}

function jsonList(argument: string): string[] | undefined {
  if (!argument.startsWith('[')) return undefined;
  try {
    const list: unknown = JSON.parse(argument);
    if (Array.isArray(list) && list.every((item) => typeof item === 'string')) return list;
  } catch {
    // Docker too takes what is no JSON list for a shell's line.
  }
  return undefined;
}

/** `A=b C="d e"`, or the old form `A b c`. */
function pairsOf(argument: string, line: string): readonly (readonly [string, string])[] {
  const words = wordsOf(argument);
  if (words[0]?.includes('=') !== true) {
    const [, name, value] = /^(\S+)\s+(.*)$/s.exec(argument) ?? [];
    if (name === undefined || value === undefined) throw wrong(line, 'expected NAME=VALUE');
    return [[name, value]];
  }
  return words.map((word) => {
    const at = word.indexOf('=');
    if (at < 1) throw wrong(line, `"${printable(word)}" is not NAME=VALUE`);
    return [word.slice(0, at), word.slice(at + 1)] as const;
  });
}

/** Splits at blanks outside of quotes, and takes quotes and backslashes away. */
function wordsOf(text: string): readonly string[] {
  const words: string[] = [];
  for (const [word] of text.matchAll(/(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+/gs)) {
    words.push(
      word.replaceAll(/"((?:[^"\\]|\\.)*)"|'([^']*)'|\\(.)/gs, (_, double, single, escaped) =>
        double !== undefined ? double.replaceAll(/\\(.)/gs, '$1') : (single ?? escaped),
      ),
    );
  }
  return words;
}

function wrong(line: string, why: string): HrunError {
  return new HrunError('INVALID_ARGUMENT', `the change "${printable(line, 100)}" is not understood: ${why}`, {
    hint: 'write it as in a Dockerfile: CMD ["sh"], ENV KEY=value, WORKDIR /srv',
  });
}
