/** One way to authenticate that a server offers (RFC 9110, 11.6.1); names are lower case. */
export interface Challenge {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

const maxLength = 16_384;
const token = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const blanks = /[ \t]*/y;
const token68 = /[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|$))/y;
const quotedString = /"((?:[^"\\]|\\.)*)"/y;

/**
 * Reads a `WWW-Authenticate` header, which may hold several challenges. What does not parse ends the list: a server
 * that sends nonsense offers nothing.
 */
export function parseChallenges(header: string): readonly Challenge[] {
  const text = header.slice(0, maxLength);
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  let position = 0;

  function take(pattern: RegExp): string | undefined {
    pattern.lastIndex = position;
    const match = pattern.exec(text);
    if (match === null) return undefined;
    position = pattern.lastIndex;
    return match[1] ?? match[0];
  }

  while (position < text.length) {
    take(blanks);
    if (text[position] === ',') {
      position += 1;
      continue;
    }
    const word = take(token);
    if (word === undefined) break;
    take(blanks);
    const current = challenges.at(-1);
    if (text[position] === '=' && current !== undefined) {
      position += 1;
      take(blanks);
      const value = text[position] === '"' ? take(quotedString)?.replaceAll(/\\(.)/g, '$1') : take(token);
      if (value === undefined) break;
      current.parameters.set(word.toLowerCase(), value);
    } else {
      challenges.push({ scheme: word.toLowerCase(), parameters: new Map() });
      skipToken68();
    }
  }
  return challenges;

  /** `Negotiate TOKEN`: credentials that are no parameters. */
  function skipToken68(): void {
    const start = position;
    const word = take(token68);
    // `Basic realm=…`: the word is a parameter's name, or the next challenge.
    if (word === undefined || !word.includes('=')) position = start;
  }
}
